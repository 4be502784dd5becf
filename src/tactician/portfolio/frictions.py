"""Costs of a trade: spread, slippage, market impact, commission.

Notation: V is the portfolio's value before the trade and x ≥ 0 the traded value of one asset, in one currency. Every
cost is paid out of cash. Buying and selling cost the same, and moving cash itself costs nothing.

=============  ============================  ===========================================================================
component      formula (currency)            source
=============  ============================  ===========================================================================
spread         ``spread · x``                specification §13b
slippage       ``ξ·x``, ξ~U(0,slippage_max)  specification §13a; always against the trader; without a draw its mean,
                                             slippage_max / 2
impact         ``impact · √(x/V) · x``       specification §13d
impact (lin.)  ``impact_linear · (x/V) · x``  price moves in proportion to the trade, so costs are quadratic: Almgren and
                                             Chriss (2001), "Optimal execution of portfolio transactions"
impact (ADV)   ``impact_adv·σ·x·√(x/ADV)``   the square-root law: Boyd et al. (2017), "Multi-Period Trading via Convex
                                             Optimization", §2.3, with σ a daily volatility and ADV an average daily
                                             traded value, both known before the trade; 1e-8 is added to ADV; no trade
                                             beyond `largest_trade`
commission     ``commission · x``            broker
=============  ============================  ===========================================================================
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.config import Config
from tactician.errors import UserError

COMPONENTS = ("spread", "slippage", "impact", "commission")
"""Order of the cost components. Impact is the sum of its three laws."""

_ADV_FLOOR = 1e-8
"""Currency added to ADV, as in cvxportfolio. It avoids a division by zero in a session without volume."""

_MAX_RATE = 0.5
"""Largest marginal cost of a trade, without impact on volume. With it the ledger's equation has exactly one solution, and a
portfolio can always pay the costs of its sales."""

_MAX_ADV_RATE = 0.1
"""Largest impact on volume as a share of the traded value. Where the law gives more, the trade is cut."""


@dataclass(frozen=True)
class Frictions:
    """Coefficients of the formulas above, under the configuration's names. Zero switches a cost off.

    The defaults are the specification's.

    Raises:
        UserError: a coefficient is negative or not finite, or the sum is too large a part of a trade.
    """

    spread: float = 0.0002
    slippage_max: float = 0.0005
    impact: float = 0.01
    commission: float = 0.0
    impact_adv: float = 0.0
    impact_linear: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < float("inf"):
                raise UserError(f"{field.name} cannot be {value}; give a number that is zero or positive.")
        # The marginal cost of trading the whole portfolio in one asset.
        rate = self.spread + self.slippage_max + self.commission + 1.5 * self.impact + 2 * self.impact_linear
        if rate > _MAX_RATE * (1 + 1e-9):  # the sum may round
            raise UserError(
                f"spread + slippage_max + commission + 1.5·impact + 2·impact_linear is {rate:.3g}, and costs may take at most "
                f"{_MAX_RATE} of a trade; lower them (0.0002 is two basis points)."
            )

    @classmethod
    def of(cls, config: Config) -> "Frictions":
        """The frictions of a configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @classmethod
    def zero(cls) -> "Frictions":
        """No costs: trading is free."""
        return cls(spread=0.0, slippage_max=0.0, impact=0.0)

    def scaled(self, factor: float) -> "Frictions":
        """All coefficients times a factor."""
        return Frictions(**{field.name: factor * getattr(self, field.name) for field in fields(self)})

    @classmethod
    def specification(cls) -> "Frictions":
        """The specification's §13: spread 2 bp, slippage up to 5 bp, impact 1 % · √(x/V)."""
        return cls()


@dataclass(frozen=True)
class CostRates:
    """Frictions for given portfolios. The total cost of an asset is ``x · (linear + root · √x + square · x)``."""

    linear: float | Tensor
    """Fraction of x: a number, or ``[..., asset]`` if slippage was drawn."""
    slippage: float | Tensor
    """The part of ``linear`` that is slippage."""
    root: Tensor | None
    """Per √currency, ``[..., 1]`` or ``[..., asset]``; None if impact is switched off."""
    square: Tensor | None = None
    """Per currency, ``[..., 1]``; None if linear impact is switched off."""
    multiple: Tensor | None = None
    """Factor of all costs of a portfolio, ``[...]``, which the coefficients contain already; None for 1."""

    def impact(self, traded: Float[Tensor, "*batch asset"]) -> Tensor | None:
        """The part of an asset's cost rate that grows with the trade; None without impact."""
        # In place, because a step at many portfolios takes as long as its memory does.
        rate = None if self.root is None else traded.sqrt().mul_(self.root)
        if self.square is None:
            return rate
        return self.square * traded if rate is None else rate.add_(self.square * traded)

    def total(self, traded: Float[Tensor, "*batch asset"]) -> Float[Tensor, "*batch"]:
        """Cost of all assets and components in currency."""
        impact = self.impact(traded)
        return (traded * self.linear if impact is None else impact.add_(self.linear).mul_(traded)).sum(-1)


def cost_rates(
    value: Float[Tensor, "*batch"],
    frictions: Frictions,
    slippage: Float[Tensor, "*batch asset"] | None = None,
    vol_daily: Float[Tensor, "*#batch asset"] | None = None,
    adv: Float[Tensor, "*#batch asset"] | None = None,
    multiple: Float[Tensor, "*#batch"] | None = None,
) -> CostRates:
    """Combine the frictions into the coefficients of the total cost.

    Args:
        value: value V of each portfolio before the trade, positive, in currency.
        frictions: coefficients.
        slippage: drawn slippage as a fraction of the traded value; without it the mean, ``slippage_max / 2``.
        vol_daily: daily volatility σ as a decimal, known before the trade; needed by ``impact_adv``.
        adv: average daily traded value in the currency of ``value``, known before the trade; needed by ``impact_adv``.
        multiple: factor of all coefficients, drawn slippage included; None for 1.

    Raises:
        ValueError: ``impact_adv`` is on and σ or ADV is missing.
    """
    drawn: float | Tensor = frictions.slippage_max / 2 if slippage is None else slippage
    root, square = None, None
    if frictions.impact_linear:
        square = frictions.impact_linear / value.clamp_min(torch.finfo(value.dtype).tiny).unsqueeze(-1)
    if frictions.impact:
        # A ruined portfolio (V = 0) trades nothing. The floor makes its cost 0 instead of NaN.
        root = frictions.impact * value.clamp_min(torch.finfo(value.dtype).tiny).rsqrt().unsqueeze(-1)
    if frictions.impact_adv:
        if vol_daily is None or adv is None:
            raise ValueError("impact_adv needs vol_daily and adv")
        known = torch.where(adv > 0, adv, 0.0)  # without volume nothing trades; the rate must only be a number
        law = frictions.impact_adv * torch.nan_to_num(vol_daily) * (known + _ADV_FLOOR).rsqrt()
        root = law if root is None else root + law
    linear = drawn + (frictions.spread + frictions.commission)
    if multiple is None:
        return CostRates(linear, drawn, root, square)
    # Every cost is its coefficient times a function of the trade, so a factor of the costs is one of the coefficients.
    m = multiple.unsqueeze(-1)
    root, square = (None if x is None else x * m for x in (root, square))
    return CostRates(linear * m, drawn * m, root, square, multiple)


def largest_trade(
    frictions: Frictions,
    vol_daily: Float[Tensor, "*#batch asset"] | None,
    adv: Float[Tensor, "*#batch asset"] | None,
    multiple: Float[Tensor, "*#batch"] | None = None,
) -> Float[Tensor, "*batch asset"]:
    """The largest value of an asset that can be traded in one session if impact depends on volume.

    It is the smaller of the average daily traded value and of the trade whose impact is a tenth, ADV·(0.1/(b·σ))². The law
    was never measured for larger trades. It is 0 if the volume is not known.

    Args:
        frictions: with ``impact_adv`` on.
        vol_daily: daily volatility σ.
        adv: average daily traded value. The result has its unit of currency.
        multiple: factor of b; None for 1.

    Raises:
        ValueError: σ or ADV is missing.
    """
    if vol_daily is None or adv is None:
        raise ValueError("impact_adv needs vol_daily and adv")
    tiny = torch.finfo(adv.dtype).tiny
    rate = frictions.impact_adv * vol_daily
    rate = rate if multiple is None else rate * multiple.unsqueeze(-1)
    share = (_MAX_ADV_RATE / rate.clamp_min(tiny)).square().clamp_max(1.0)
    return torch.where(adv > 0, adv, 0.0) * torch.nan_to_num(share)


def component_costs(
    traded: Float[Tensor, "*batch asset"], frictions: Frictions, rates: CostRates
) -> Float[Tensor, "*batch 4"]:
    """Cost of given trades by component; ``rates`` must come from :func:`cost_rates` with the same frictions."""
    volume = traded.sum(-1)
    slipped = (traded * rates.slippage).sum(-1) if isinstance(rates.slippage, Tensor) else volume * rates.slippage
    rate = rates.impact(traded)
    impact = torch.zeros_like(volume) if rate is None else (traded * rate).sum(-1)
    volume = volume if rates.multiple is None else volume * rates.multiple  # the other two contain it
    return torch.stack([volume * frictions.spread, slipped, impact, volume * frictions.commission], dim=-1)
