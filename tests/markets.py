"""Markets for tests: small, random, and complete."""

import torch

from tactician.environment import FEATURE_NAMES, MarketTensors
from tactician.portfolio.regimes import regime_table


def random_market(
    n_days: int = 400,
    n_assets: int = 5,
    seed: int = 0,
    regimes: str = "factor",
    vol: float = 0.01,
    listing: bool = True,
) -> MarketTensors:
    """Independent normal returns, random features and ranks; the last asset is listed a third into the history."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    tradable = torch.ones(n_days, n_assets, dtype=torch.bool)
    if listing:
        tradable[: n_days // 3, -1] = False
    ranks = torch.where(tradable[..., None], normal(n_days, n_assets, 4).tanh(), 0.0)
    symbols = tuple(f"S{k}" for k in range(n_assets))
    groups = {"first": symbols[:1], "second": symbols[1:2], "rest": symbols[2:]}
    table = regime_table(regimes, symbols, groups)
    days = torch.arange(10_000, 10_000 + n_days)
    return MarketTensors(
        dates=days,
        end_dates=days + 1,
        symbols=symbols,
        returns=vol * normal(n_days, n_assets) + 0.0004,
        cash_return=torch.full((n_days,), 0.0001),
        features=normal(n_days, len(FEATURE_NAMES)),
        regime_weights=table.weights(ranks, tradable),
        tradable=tradable,
        fillable=torch.ones_like(tradable),
        delisted=torch.zeros_like(tradable),
        factor_ranks=ranks,
        vol_daily=torch.full((n_days, n_assets), vol),
        dollar_volume=torch.full((n_days, n_assets), 1e7),
        regimes=table,
        fingerprint="random",
        built_from={},
    )
