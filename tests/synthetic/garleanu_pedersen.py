"""The closed form of Gârleanu and Pedersen (2013), "Dynamic trading with predictable returns and transaction costs"."""

import math

import torch

from tactician.synthetic import PredictableLaw


def closed_form(law: PredictableLaw, signal: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Their policy in a market of that law, undiscounted: the share a/λ of the way to trade, and the exposures to aim at."""
    aim = law.mean / law.std**2 + signal * aim_coefficient(1.0, 0.0, law.cost, law.reversion, law.std**2)
    return trading_rate(1.0, 0.0, law.cost) / law.cost, aim


def trading_rate(risk_aversion: float, discount: float, cost: float) -> float:
    """Their scalar a.

    a/λ is the share of the way to the aim that is traded in a period.

    Args:
        risk_aversion: γ.
        discount: ρ; a period counts 1 − ρ times the one before it.
        cost: λ, with ½·λ·σ²·Δx² the cost of a trade.
    """
    kept = 1 - discount
    b = risk_aversion * kept + cost * discount
    return (-b + math.sqrt(b * b + 4 * risk_aversion * cost * kept**2)) / (2 * kept)


def aim_coefficient(risk_aversion: float, discount: float, cost: float, reversion: float, variance: float) -> float:
    """Aim portfolio per unit of expected return: 1/(γσ²) · 1/(1 + φ·a/γ), as `trading_rate`.

    Args:
        risk_aversion: γ.
        discount: ρ.
        cost: λ.
        reversion: φ, the share of the signal that decays in a period.
        variance: σ² of the asset.
    """
    a = trading_rate(risk_aversion, discount, cost)
    return 1 / (risk_aversion * variance * (1 + reversion * a / risk_aversion))
