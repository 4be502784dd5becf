"""Markets with a known best policy: six, and three harder versions. docs/learning.md describes what each one shows.

Every function returns a new sample of its law. The same seed gives the same market.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int8, Int64
from torch import Tensor

from tactician.environment import EnvState
from tactician.market import FACTORS
from tactician.portfolio.frictions import Frictions
from tactician.portfolio.regimes import RegimeTable, regime_table
from tactician.synthetic.problem import (
    CASH,
    HOLD,
    Problem,
    action_table,
    fixed_regimes,
    make_market,
    switching_costs,
)
from tactician.synthetic.solvers import (
    BeliefGrid,
    HiddenChain,
    expected_log_growth,
    solve,
    solve_backwards,
    solve_drifting,
)

N_TRAIN, N_JUDGED = 100_000, 32_768

_DAYS = N_TRAIN + N_JUDGED
JUDGED = range(N_TRAIN, _DAYS)


def oracle_feature(seed: int = 0, spread: float = 0.0005) -> Problem:
    """Tomorrow's returns leak into the observation, on purpose: a learner that cannot use them cannot learn anything.

    There are three independent assets and cash. The optimum knows every return of the path (dynamic programming over day
    and holding). The agent sees only one session ahead, so it cannot quite reach a share of 1.
    """
    generator = torch.Generator().manual_seed(seed)
    returns = 0.01 * torch.randn(_DAYS, 3, generator=generator, dtype=torch.float64)
    regimes = fixed_regimes([(f"ASSET_{k}", (k,), 0.0) for k in range(3)])
    market = make_market("oracle feature", returns, returns, regimes)
    frictions = Frictions(spread=spread, slippage_max=0.0, impact=0.0)
    costs = switching_costs(market.regime_weights[0, 1:], frictions)
    # The returns of the float32 market, so that the optimum is that of the market and not of its law.
    paid = torch.log1p(market.returns.double())
    worth = solve_backwards(torch.cat([torch.zeros(_DAYS, 1, dtype=torch.float64), paid], 1), costs)
    begun = (worth[N_TRAIN][None] - costs).amax(-1)[0]
    return Problem("oracle", market, frictions, N_TRAIN, JUDGED, action_table(worth, costs), float(begun) / N_JUDGED)


def observable_regime(seed: int = 0, cost_share: float = 0.25) -> Problem:
    """A state determines whether the asset rises or falls, and is seen one day late. Trading pays below a known cost.

    Let p be the probability of staying, and ±μ the mean return. The expected return of a step is m = (2p − 1)·μ. Following
    the signal earns m/2 − c·(1 − p) per session, and staying put earns nothing. So trading must stop at
    c = m / (2(1 − p)). The solver maximises log growth, which loses half the variance, so it stops at 0.984 of that cost.

    Args:
        seed: of the sample.
        cost_share: the one-way cost c, as a share of that threshold.
    """
    stay, mean, std = 0.9, 0.005, 0.01
    cost = cost_share * threshold_cost(stay, mean)
    generator = torch.Generator().manual_seed(seed)
    chain = HiddenChain(stay, torch.tensor([[mean], [-mean]], dtype=torch.float64), std)
    states, returns = chain.sample(_DAYS, generator)
    seen = torch.cat([states[:1], states[:-1]])
    regimes = fixed_regimes([("ASSET", (0,), 0.0)])
    market = make_market("observable regime", returns, 1.0 - 2.0 * seen[:, None], regimes)
    frictions = Frictions(spread=cost, slippage_max=0.0, impact=0.0)
    costs = switching_costs(market.regime_weights[0, 1:], frictions)
    growth = chain.transition @ _growth_by_state(chain, market.regime_weights[0, 1:])
    solution = solve(growth, costs, chain.transition)
    best = action_table(solution.values[seen], costs)
    never = bool((best[:, CASH] == HOLD).all())  # a portfolio that starts in cash stays there
    return Problem("observable", market, frictions, N_TRAIN, JUDGED, best, solution.growth, never_trades=never)


def threshold_cost(stay: float, mean: float) -> float:
    """One-way cost at which following a symmetric two-state signal, seen one day late, earns nothing: m / (2(1 − p))."""
    return (2 * stay - 1) * mean / (2 * (1 - stay))


def hidden_regime(seed: int = 0, spread: float = 0.001) -> Problem:
    """As `observable_regime`, but only noisy returns are seen, never the state. The optimum uses the exact filter's belief.

    A policy without memory sees a single return and can only guess.
    """
    generator = torch.Generator().manual_seed(seed)
    chain = HiddenChain(0.97, torch.tensor([[0.005], [-0.005]], dtype=torch.float64), 0.01)
    regimes = fixed_regimes([("ASSET", (0,), 0.0)])
    frictions = Frictions(spread=spread, slippage_max=0.0, impact=0.0)
    return _of_hidden_chain("hidden", chain, generator, BeliefGrid(2, 400), regimes, None, frictions)


FAINT = 1 / 3
"""Strength of the signal in the faint versions of two markets."""


def regime_choice(seed: int = 0, strength: float = 1.0) -> Problem:
    """Three hidden states with different best regimes among the specification's twelve, at its real costs.

    There are ten assets with fixed factor ranks. In the first state returns rise with the momentum rank, in the second with
    the low-volatility rank, and in the third all assets fall. The solver ignores the drift of holdings between trades.

    Args:
        seed: of the sample.
        strength: multiplies the mean returns of all states.
    """
    generator = torch.Generator().manual_seed(seed)
    # The assets are the same in all samples, because their ranks determine the best regimes.
    order = torch.stack(
        [torch.randperm(10, generator=torch.Generator().manual_seed(k)) for k in range(len(FACTORS))], 1
    )
    ranks = 1 - 2 * order.double() / 9
    momentum, low_vol = ranks[:, FACTORS.index("momentum")], ranks[:, FACTORS.index("low_vol")]
    falling = torch.full((10,), -0.0035, dtype=torch.float64)
    means = strength * torch.stack([0.007 * momentum, 0.007 * low_vol, falling])
    chain = HiddenChain(0.98, means, 0.01)
    table = regime_table("factor", [f"S{k}" for k in range(10)])
    frictions = Frictions(slippage_max=0.0, spread=0.00045)  # the specification's, slippage at its mean
    name = _name("regimes", strength)
    return _of_hidden_chain(name, chain, generator, BeliefGrid(3, 40), table, ranks, frictions)


PERSISTENCE = (
    (-0.09, 0.43, 0.75, 0.87, 0.93, 0.973, 0.987, 0.993)  # index_return_1 … 252
    + (0.915, 0.994, 0.999, 0.999, 0.8, 0.986, 0.973, 0.99, 0.992)  # index_vol_5 … high_age_252
    + (0.51, 0.946, 0.978, 0.996, -0.09, 0.9, 0.935)  # dispersion_1 … breadth_mean_60
    + (0.8, 0.947, 0.982) * 4  # excess_momentum_5, 20, 60, and those of the other factors
    + (0.94, 0.99, 0.912, 0.98)  # spread_momentum …
    + (0.999, 0.999, 0.999, -0.24)  # cash_rate, year_sin, year_cos, days_waited
)
"""Autocorrelation over one session of each feature of the market, on the embedded stocks from 2001 to 2015. Their score of size
is constant, and so is their cash rate: these have values like their neighbours'."""


def null_market(seed: int = 0, lifelike: bool = False) -> Problem:
    """Independent returns, with the same growth for every regime: any trade is a loss, and turnover must go to zero.

    All assets share one return, whose log has mean 0. So fully invested regimes differ only by the cost of moving. No
    mixture with cash beats them by more than σ²/8.

    Args:
        seed: of the sample.
        lifelike: show as many features as life has, each a first-order autoregression as persistent as its model. They know
            nothing of returns, but tell the days apart.
    """
    generator = torch.Generator().manual_seed(seed)
    std = 0.005
    common = torch.expm1(std * torch.randn(_DAYS, 1, generator=generator, dtype=torch.float64))
    signals = torch.randn(_DAYS, 4, generator=generator)
    signals[2:, :1] = common[:-2].float()
    if lifelike:
        signals = _autoregressions(PERSISTENCE, generator)
    ranks = torch.stack([torch.randperm(10, generator=generator) for _ in FACTORS], 1).double()
    table = regime_table("factor", [f"S{k}" for k in range(10)])
    name = "null_lifelike" if lifelike else "null"
    market = make_market(name, common.expand(-1, 10), signals, table, 1 - 2 * ranks / 9)
    frictions = Frictions(slippage_max=0.0, spread=0.00045)
    best = torch.full((_DAYS, table.n_actions), HOLD)
    return Problem(name, market, frictions, N_TRAIN, JUDGED, best, 0.0, never_trades=True)


EXPOSURES = tuple(k / 8 for k in range(9))


def _autoregressions(persistence: tuple[float, ...], generator: torch.Generator) -> Float[Tensor, "day feature"]:
    """Independent first-order autoregressions of unit variance."""
    stay = np.array(persistence)
    path = torch.randn(_DAYS, len(stay), generator=generator, dtype=torch.float64).numpy()
    path[1:] *= np.sqrt(1 - stay**2)
    for before, now in pairwise(path):
        now += stay * before
    return torch.from_numpy(path)


def predictable_returns(seed: int = 0, strength: float = 1.0) -> Problem:
    """The market of Gârleanu and Pedersen (2013): a decaying signal predicts returns, and trading has quadratic costs.

    Up to third moments, log growth is their objective with risk aversion 1: x·f − ½x²σ². Three things differ from their
    model: there are few targets, holdings drift with their returns for free, and a session passes between decision and
    trade. The optimum comes from value iteration over signal and exposure, and accounts for all three. The tests compare it
    with their closed form.

    Args:
        seed: of the sample.
        strength: multiplies the signal.
    """
    law = PREDICTABLE if strength == 1 else PredictableLaw(spread=strength * PREDICTABLE.spread)
    generator = torch.Generator().manual_seed(seed)
    shocks = torch.randn(_DAYS, generator=generator, dtype=torch.float64)
    signal = torch.empty(_DAYS, dtype=torch.float64)
    level = 0.0
    for t, shock in enumerate(shocks.tolist()):
        level = (1 - law.reversion) * level + law.shock * shock
        signal[t] = level
    sign = torch.randint(0, 2, (_DAYS,), generator=generator) * 2.0 - 1
    # The judged rows come twice, with opposite noise, so that luck in one half cancels bad luck in the other.
    half = _DAYS - N_JUDGED // 2
    signal[half:], sign[half:] = signal[N_TRAIN:half], -sign[N_TRAIN:half]
    returns = (law.mean + signal + law.std * sign)[:, None]
    regimes = fixed_regimes([(f"EXPOSURE_{round(100 * x)}", (0,), 1 - x) for x in EXPOSURES[1:]])
    name = _name("predictable", strength)
    market = make_market(name, returns, signal[:, None], regimes)
    frictions = Frictions(spread=0.0, slippage_max=0.0, impact=0.0, impact_linear=law.cost * law.std**2 / 2)
    growth, best = law.optimum(signal)
    return Problem(name, market, frictions, N_TRAIN, JUDGED, best, growth, position=_nearest_exposure)


_FINE = 80
"""Steps of the exposure grid of value iteration, fine enough for drift. It contains all of `EXPOSURES`."""


def _nearest_exposure(state: EnvState) -> Int64[Tensor, " env"]:
    invested = 1 - state.holdings[:, -1] / state.holdings.sum(-1)
    return (invested * _FINE).round().long()


class PredictableLaw:
    """The parameters of `predictable_returns`, in the notation of Gârleanu and Pedersen (2013)."""

    def __init__(self, std: float = 0.4, reversion: float = 0.1, cost: float = 2.0, spread: float = 0.4) -> None:
        self.spread = spread
        self.std, self.reversion, self.cost = std, reversion, cost
        self.mean = 0.5 * std**2
        """Mean return. Without a signal, the best exposure would be one half."""
        self.signal_std = spread * std**2
        self.shock = self.signal_std * (1 - (1 - reversion) ** 2) ** 0.5

    def signal_chain(self, points: int = 61) -> tuple[Float[Tensor, " signal"], Float[Tensor, "signal signal"]]:
        """A grid of signals over ±4 standard deviations, and the transition probabilities between its points."""
        grid = torch.linspace(-4, 4, points, dtype=torch.float64) * self.signal_std
        edges = torch.cat([grid.new_tensor([-torch.inf]), (grid[1:] + grid[:-1]) / 2, grid.new_tensor([torch.inf])])
        spread = (edges[None] - (1 - self.reversion) * grid[:, None]) / self.shock
        return grid, torch.special.ndtr(spread).diff(dim=-1)

    def solve(
        self, fine: int, targets: Int64[Tensor, " target"], points: int = 61
    ) -> tuple[float, Float[Tensor, "signal exposure action"]]:
        """Growth per session of the optimum, and the value of every action on the grid of signals.

        Args:
            fine: exposures are multiples of 1/fine.
            targets: exposures that can be traded to, as such multiples.
            points: number of points in the grid of signals.

        Returns:
            Growth and values. The actions are HOLD, then each target.
        """
        grid, transition = self.signal_chain(points)
        x = torch.arange(fine + 1, dtype=torch.float64) / fine
        # The noise is ±std, so that expectations over it are exact.
        noise = self.std * torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
        now = (self.mean + grid + noise)[..., None]
        # The returns between decision and trade depend on the previous signal. Given the present signal, the expected
        # previous one is (1 − reversion) times it.
        past = (self.mean + (1 - self.reversion) * grid + noise)[..., None]
        drifted = x * (1 + past) / (1 + x * past)
        costs = -torch.log1p(-self.cost * self.std**2 / 2 * (x[targets] - drifted[..., None]).square())
        return solve_drifting(torch.log1p(x * now).mean(0), drifted, costs, targets, transition)

    def optimum(self, signal: Float[Tensor, " day"]) -> tuple[float, Int8[Tensor, "day exposure"]]:
        """The optimum's growth per session, and its action along a path of the signal for each held multiple of 1/80."""
        targets = torch.tensor([round(_FINE * x) for x in EXPOSURES])
        growth, worth = self.solve(_FINE, targets)
        grid, _ = self.signal_chain()
        place = ((signal - grid[0]) / (grid[1] - grid[0])).clamp(0, len(grid) - 1 - 1e-9)
        low, best = place.long(), []
        for rows in torch.arange(len(signal)).split(4096):  # all at once would take a gigabyte
            share = (place[rows] - low[rows])[:, None, None]
            between = (1 - share) * worth[low[rows]] + share * worth[low[rows] + 1]
            best.append(between.argmax(-1).to(torch.int8))
        return growth, torch.cat(best)


PREDICTABLE = PredictableLaw()

PROBLEMS: dict[str, Callable[[int], Problem]] = {
    "oracle": oracle_feature,
    "observable": observable_regime,
    "hidden": hidden_regime,
    "regimes": regime_choice,
    "null": null_market,
    "predictable": predictable_returns,
}
"""The six markets of the study by name."""

HARDER: dict[str, Callable[[int], Problem]] = {
    "null_lifelike": partial(null_market, lifelike=True),
    "regimes_faint": partial(regime_choice, strength=FAINT),
    "predictable_faint": partial(predictable_returns, strength=FAINT),
}
"""What makes memorising easier and learning harder, for trainings on few rows."""

ALL_PROBLEMS = {**PROBLEMS, **HARDER}


def _name(market: str, strength: float) -> str:
    return market if strength == 1 else f"{market}_faint"


def _growth_by_state(chain: HiddenChain, weights: Float[Tensor, "regime asset+1"]) -> Float[Tensor, "state regime"]:
    risky = weights[:, :-1].double()
    return expected_log_growth(chain.means @ risky.T, chain.std * risky.norm(dim=-1).expand(chain.n_states, -1))


def _of_hidden_chain(
    name: str,
    chain: HiddenChain,
    generator: torch.Generator,
    grid: BeliefGrid,
    regimes: RegimeTable,
    ranks: Tensor | None,
    frictions: Frictions,
) -> Problem:
    _, returns = chain.sample(_DAYS, generator)
    # The decision of row t knows the closes up to t − 1, so its last known return is that of row t − 2.
    seen = torch.cat([torch.zeros_like(returns[:2]), returns[:-2]])
    market = make_market(name, returns, seen, regimes, ranks)
    weights = market.regime_weights[0, 1:]
    costs = switching_costs(weights, frictions)
    ahead = chain.transition @ chain.transition
    by_state = ahead @ _growth_by_state(chain, weights)
    solution = solve(grid.points @ by_state, costs, chain.belief_transition(grid))
    belief = chain.filter(market.returns.double())
    belief = torch.cat([torch.full((2, chain.n_states), 1 / chain.n_states, dtype=torch.float64), belief[:-2]])
    best = action_table(grid.interpolate(solution.values, belief), costs)
    return Problem(name, market, frictions, N_TRAIN, JUDGED, best, solution.growth)
