"""What the policy says for the next close, from the same functions as backtest and judgement.

The recurrent state is not stored from day to day. It is rebuilt from what was observed in the last L − 1 sessions: the
sessions that the account has lived are taken from its journal, and those before it are lived on paper, as the judge does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import torch
from jaxtyping import Float
from torch import Tensor

from tactician.environment import (
    FEATURE_NAMES,
    HOLD,
    OBSERVATION_NAMES,
    Distance,
    Environment,
    EnvState,
    MarketTensors,
    Names,
    TrainingDays,
    observe,
    step,
)
from tactician.errors import Refused
from tactician.evaluation import Found, action_targets
from tactician.evaluation.decisions import decide
from tactician.evaluation.importance import occlude, reference_values
from tactician.policy import Network


@dataclass(frozen=True)
class Seat:
    """What a portfolio looks like to the policy before a decision."""

    holdings: tuple[float, ...]
    """Currency by asset, cash last, after the trade at the close before, at the prices of that close."""
    regime: int = HOLD
    """The regime that was traded into last; 0 before the first."""
    since_trade: int = 0
    """Sessions since then."""


@dataclass(frozen=True)
class Lived:
    """A session that the account has lived: what was seen, and what was decided."""

    session: date
    seat: Seat
    action: int


@dataclass(frozen=True)
class Reason:
    """What an observation did to the decision."""

    name: str
    value: float
    """In standard deviations from its mean in training, for a market feature; as it is, for the portfolio's."""
    effect: float
    """What the log-probability of the chosen regime loses without it; above zero, it spoke for the choice."""


@dataclass(frozen=True)
class Advice:
    """What to hold from the next close on, and why."""

    session: date
    """At whose close to trade."""
    known_until: date
    """The last session that the decision has seen."""
    symbols: tuple[str, ...]
    action: int
    regime: str
    description: str
    probabilities: dict[str, float]
    """By regime."""
    hold: bool
    """Nothing is traded, whatever the targets."""
    targets: tuple[float, ...]
    """Target weights, cash last."""
    vol_daily: tuple[float, ...]
    adv: tuple[float, ...]
    """Average daily traded value, in currency; NaN if it is not known."""
    seat: Seat
    next_regime: int
    """`Seat.regime` of the next decision."""
    next_since: int
    why: tuple[Reason, ...]
    """The observations that mattered most, the largest effect first."""
    strange: tuple[str, ...]
    """Market features outside the range of the training sessions; () if that is not known."""
    model: str = ""
    """Identity of the model."""
    data: str = ""
    """Fingerprint of the bars."""
    range_known: bool = True
    """Whether the range of the features in training is known."""
    distance: Distance | None = None
    """From the training days."""
    names: Names | None = None
    """The universe beside that of the training."""
    found: Found | None = None
    """What the members of an ensemble found on days that they have not seen; None for a single agent."""

    @property
    def outside(self) -> float:
        """Share of the market features that lie outside their range in training."""
        return len(self.strange) / len(FEATURE_NAMES)


@dataclass
class Advisor:
    """A policy, or an ensemble, and the market that it knows."""

    env: Environment
    """Its market's features are normalised. Rows up to any session can be asked for."""
    policies: Sequence[Network]
    raw: MarketTensors
    """The market before the normalisation."""
    feature_range: tuple[Float[Tensor, " feature"], Float[Tensor, " feature"]] | None
    """Lowest and highest value of each market feature in training; None if not known."""
    model: str = ""
    training: TrainingDays | None = None
    """None if the model is older."""
    names: Names | None = None
    """The universe beside that of the training."""
    found: Found | None = None
    """See `Advice`. How far it is followed is the environment's."""
    _paper: dict[int, Tensor] = field(default_factory=dict)
    """Observations on paper before a row: the same for every session of an account."""

    def row_of(self, session: date) -> int:
        """The row of a session's decision.

        Raises:
            Refused: the bars do not reach it.
        """
        days = (session - date(1970, 1, 1)).days
        found = (self.env.market.dates == days).nonzero()
        if len(found) == 0 or int(found[0]) == 0:
            raise Refused(
                f"The bars give no decision for {session}: they reach from {self.env.market.date_of(1)} to "
                f"{self.env.market.date_of(-1)}; get them anew, or wait for them."
            )
        return int(found[0])

    @torch.no_grad()
    def advise(self, session: date, seat: Seat, lived: Sequence[Lived] = (), reasons: int = 8) -> Advice:
        """Decide for one session.

        Args:
            session: at whose close to trade.
            seat: the portfolio now.
            lived: earlier sessions of the account, in order. Where one is missing in between, nothing was traded.
            reasons: how many observations are named.

        Raises:
            Refused: the bars do not reach it, or an output of the policy is not finite.
        """
        row = self.row_of(session)
        env = _alone(self.env, row)
        sequence = self._memory(row, env, lived)
        now = observe(env, _state(env, row, seat))
        hidden = [_remember(policy, sequence) for policy in self.policies]
        each = [p(now[None], h)[0][0, 0].softmax(-1) for p, h in zip(self.policies, hidden, strict=True)]
        chances = torch.stack(each).mean(0)
        if not bool(chances.isfinite().all()):
            raise Refused("An output of the policy is not a finite number; train the model anew, or name another one.")
        action = int(chances.argmax())
        market = env.market
        targets, hold = action_targets(market, range(row, row + 1), torch.tensor([action]))
        after, _ = step(env, _state(env, row, seat), torch.tensor([action]))
        return Advice(
            session=session,
            known_until=self.raw.date_of(row - 1),
            symbols=market.symbols,
            action=action,
            regime=market.regimes.names[action],
            description=market.regimes.description(action),
            probabilities=dict(zip(market.regimes.names, chances.tolist(), strict=True)),
            hold=bool(hold[0, 0]),
            targets=tuple(targets[0, 0].tolist()),
            vol_daily=tuple(market.vol_daily[row].tolist()),
            adv=tuple(market.dollar_volume[row].tolist()),
            seat=seat,
            next_regime=int(after.regime[0]),
            next_since=int(after.since_trade[0]),
            why=self._why(sequence, now, hidden, action, reasons),
            strange=self._strange(row),
            model=self.model,
            data=self.raw.fingerprint,
            range_known=self.feature_range is not None,
            distance=Distance.of_day(market.features[row], self.training),
            names=self.names,
            found=self.found,
        )

    def _memory(self, row: int, env: Environment, lived: Sequence[Lived]) -> Float[Tensor, "step obs"]:
        """The observations of the at most L − 1 sessions before a row."""
        oldest = row - self.env.episode_length + 1
        first = self.row_of(lived[0].session) if lived and self._reaches(lived[0].session) else row
        seen = [] if lived and first <= oldest else [self._on_paper(first)]
        # One more than needed, because a session without a decision is told from the one before.
        recent = {
            self.row_of(one.session): one for one in lived[-self.env.episode_length :] if self._reaches(one.session)
        }
        if recent:
            seen.append(observe(env, _states(env, recent, row)))
        return torch.cat(seen)[-(self.env.episode_length - 1) :]

    def _reaches(self, session: date) -> bool:
        return bool(self.env.market.date_of(0) < session)

    def _on_paper(self, row: int) -> Tensor:
        if row not in self._paper:
            self._paper = {row: decide(_alone(self.env, row), self.policies, range(row, row + 1)).paper}
        return self._paper[row]

    def _why(
        self, sequence: Tensor, now: Tensor, hidden: Sequence[Tensor], action: int, reasons: int
    ) -> tuple[Reason, ...]:
        whole = torch.cat([sequence, now])
        found = occlude(
            self.policies,
            now,
            [h.transpose(0, 1) for h in hidden],
            torch.tensor([action]),
            reference_values(whole),
        )
        return tuple(Reason(OBSERVATION_NAMES[k], value, effect) for k, effect, value in found.top(reasons)[0])

    def _strange(self, row: int) -> tuple[str, ...]:
        if self.feature_range is None:
            return ()
        low, high = self.feature_range
        features = self.raw.features[row]
        outside = (features < low) | (features > high)
        return tuple(name for name, out in zip(FEATURE_NAMES, outside.tolist(), strict=True) if out)


def _alone(env: Environment, row: int) -> Environment:
    """One portfolio, and a market that ends with a row as it was known when it was decided."""
    market = env.market.until(row)
    rows = range(1, market.n_days)
    return replace(
        env,
        market=market,
        rows=rows,
        episode_length=min(env.episode_length, len(rows)),
        portfolios_per_window=1,
        first_holdings="cash",
        random_slippage=False,
    )


def _state(env: Environment, row: int, seat: Seat) -> EnvState:
    zero = torch.zeros(1, dtype=torch.int64)
    return EnvState(
        window=zero,
        episode=zero,
        age=zero,
        day=torch.tensor([row]),
        holdings=(torch.tensor([seat.holdings], dtype=torch.float64) / env.portfolio_value).float(),
        regime=torch.tensor([seat.regime]),
        since_trade=torch.tensor([seat.since_trade]),
        trade_growth=torch.zeros(1),
        in_trade=torch.zeros(1, dtype=torch.bool),
    )


def _states(env: Environment, by_row: Mapping[int, Lived], row: int) -> EnvState:
    """The portfolio before the decision of every row from the first lived one up to ``row``, as one batch."""
    states: list[EnvState] = []
    for day in range(min(by_row), row):
        if day in by_row:
            states.append(_state(env, day, by_row[day].seat))
            continue
        # Nobody decided: the portfolio drifted on, after the last decision or after the last session without one.
        before = by_row.get(day - 1)
        states.append(step(env, states[-1], torch.tensor([before.action if before else HOLD]))[0])
    merged = {name: torch.cat([s.state_dict()[name] for s in states]) for name in states[0].state_dict()}
    return EnvState(**{**merged, "window": torch.arange(len(states))})


def _remember(policy: Network, sequence: Float[Tensor, "step obs"]) -> Float[Tensor, "layer 1 hidden"]:
    state = policy.initial_state(1)
    return policy.trunk(sequence[:, None], state)[1] if len(sequence) else state
