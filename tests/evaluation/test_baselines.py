"""The table of baselines: what holds for all of them, and the simple ones by hand."""

import warnings
from dataclasses import replace

import pytest
import torch

from tactician.evaluation import (
    BASELINES,
    Baseline,
    NotAvailable,
    Piece,
    Question,
    answers,
    baseline_targets,
    baselines_of,
    label_of,
)
from tactician.evaluation.rivals_known import known
from tactician.evaluation.rivals_simple import within_band
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market
from tests.portfolio.scalar_ledger import Coefficients, trade
from tests.portfolio.scalar_ledger import grow as scalar_grow
from tests.portfolio.scalar_ledger import settle as scalar_settle

NAMES = tuple(baselines_of(random_market()))
ROWS = range(330, 420)


def market(seed: int = 0, **more):
    """One asset is listed late, another one is delisted in the judged rows, and some orders cannot be filled."""
    base = random_market(450, seed=seed, vol=0.02, **more)
    listed = torch.arange(450)[:, None] >= torch.tensor([0, 0, 0, 0, 140])
    over = torch.arange(450)[:, None] >= torch.tensor([450, 450, 450, 375, 450])
    holes = torch.rand(450, 5, generator=torch.Generator().manual_seed(seed)) < 0.02
    tradable = base.tradable & torch.cat([torch.ones_like(over[:1]), ~over[:-1]])
    returns = torch.where(over | ~listed, 0.0, base.returns)
    return replace(base, returns=returns, tradable=tradable, fillable=listed & ~over & ~holes, delisted=over)


def question(asked=None, rows=ROWS) -> Question:
    """Two pieces, as in a walk-forward, and an agent that moves and holds."""
    asked = market() if asked is None else asked
    middle = rows.start + len(rows) // 2
    pieces = (
        Piece(range(rows.start, middle), range(rows.start - 50, rows.start - 1), range(1, rows.start - 55)),
        Piece(range(middle, rows.stop), range(middle - 25, middle - 1), range(1, middle - 30)),
    )
    actions = torch.randint(0, 12, (len(rows),), generator=torch.Generator().manual_seed(1))
    actions[torch.arange(len(rows)) % 7 > 0] = 0
    return Question(asked, rows, pieces, Frictions.specification(), 1e6, actions)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("regimes", ["factor", "static", "expanded"])
def test_every_baselines_weights_are_a_portfolio_in_every_row(regimes):
    asked = question(market(regimes=regimes))
    asked = replace(asked, actions=asked.actions % asked.market.regimes.n_actions)
    targets, missing = answers(asked, baselines_of(asked.market))
    assert missing == {} and len(targets) == len(BASELINES) + asked.market.regimes.n_actions - 1
    for name, (weights, hold) in targets.items():
        assert weights.shape == (90, 6) and weights.dtype == torch.float64 and hold.shape == (90,), name
        assert (weights >= 0).all() and torch.allclose(weights.sum(-1), torch.ones(90).double(), atol=1e-12), name
        assert not hold[0], name
        untradable = ~asked.market.tradable[330:420]
        assert (weights[:, :-1][untradable & ~hold[:, None]] == 0).all(), name


def later(asked, row: int):
    """A market with other figures wherever they become known after the decision in a row."""
    other, coin = market(seed=9), torch.Generator().manual_seed(row)
    known = {"returns": row - 1, "cash_return": row - 1, "fillable": row, "delisted": row}
    known |= dict.fromkeys(("tradable", "factor_ranks", "vol_daily", "dollar_volume", "features"), row + 1)
    changed = {}
    for name, first in known.items():
        changed[name] = getattr(asked, name).clone()
        if changed[name].dtype == torch.bool:
            changed[name][first:] = getattr(other, name)[first:] & (
                torch.rand(changed[name][first:].shape, generator=coin) < 0.8
            )
        else:
            changed[name][first:] = 2 * getattr(other, name)[first:] + 0.001
    market_later = replace(asked, **changed)
    weights = asked.regimes.weights(market_later.factor_ranks, market_later.tradable)
    return replace(market_later, regime_weights=weights)


WHOLE = ("hindsight", "random_regimes")
"""Made from the whole path: the best one, and one that trades as often as it takes to trade as much as the agent."""


@pytest.mark.parametrize("row", [330, 332, 345, 377, 400])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_no_baseline_knows_what_comes_later(name, row):
    asked = question()
    disturbed = replace(asked, market=later(asked.market, row))
    baseline = baselines_of(asked.market)[name]
    before, after = baseline.targets(asked), baseline.targets(disturbed)
    until = row - ROWS.start + 1
    for ours, theirs in zip(before, after, strict=True):
        assert torch.equal(ours[:until], theirs[:until])
    if name not in ("cash", "regime:FULL_CASH", "buy_and_hold") and row <= 345:
        assert any(not torch.equal(ours[until:], theirs[until:]) for ours, theirs in zip(before, after, strict=True))


def test_the_disturbed_market_shows_that_hindsight_knows():
    asked = question()
    disturbed = replace(asked, market=later(asked.market, 332))
    hindsight = BASELINES["hindsight"].targets
    assert not torch.equal(hindsight(asked)[0][:3], hindsight(disturbed)[0][:3])


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_answers_the_same_question_the_same_way(name):
    first, second = (baselines_of(market())[name].targets(question()) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_the_table_is_in_order_and_its_labels_are_distinct():
    assert NAMES[:5] == ("equal_weight", "cash", "buy_and_hold", "equal_weight_monthly", "equal_weight_banded")
    assert NAMES[5] == "regime:FULL_CASH" and NAMES[16] == "best_constant" and NAMES[-1] == "hindsight"
    assert "regime:HOLD" not in NAMES
    assert label_of("regime:MOMENTUM") == "Always MOMENTUM" and label_of("hindsight") == "Best path in hindsight"
    assert len({label_of(name) for name in NAMES}) == len(NAMES)
    groups = {baseline.group for baseline in baselines_of(market()).values()}
    assert groups == {"simple", "regime", "agent's own", "classical", "hindsight"}


def test_what_is_not_available_is_named_with_its_reason_and_the_others_are_computed(monkeypatch):
    def never(question):
        raise NotAvailable("the moon is full")

    monkeypatch.setitem(BASELINES, "moon", Baseline("Moon", never, always=True))
    bare = Question(market(), ROWS)
    targets, missing = answers(bare, baselines_of(bare.market))
    assert missing == {
        "best_constant": "there is no validation range to choose a regime on",
        "random_regimes": "there is no agent whose turnover it could match",
        "moon": "the moon is full",
    }
    assert "hindsight" in targets and not set(targets) & set(missing)
    assert baseline_targets(bare)[0] == ("equal_weight", "cash", "buy_and_hold")


def test_pieces_join_up_and_use_only_what_is_over():
    asked = market()
    assert Question(asked, ROWS).pieces == (Piece(ROWS),)
    Question(asked, ROWS, (Piece(ROWS, range(300, 329), range(1, 300)),))
    with pytest.raises(ValueError, match="do not join up"):
        Question(asked, ROWS, (Piece(range(330, 400)), Piece(range(401, 420))))
    # The return of row 329 is earned until the close of 330, and the decision in 330 knows sessions up to 329.
    with pytest.raises(ValueError, match="a range up to row 330 is not over in row 330"):
        Question(asked, ROWS, (Piece(ROWS, range(300, 330)),))


def test_a_decision_knows_returns_up_to_two_rows_before_and_assets_that_had_a_price_by_then():
    asked = random_market(450, listing=False)
    for first, usable in ((147, True), (148, False)):
        fillable = asked.fillable.clone()
        fillable[:first, 2] = False
        past = known(replace(asked, fillable=fillable), 400)
        # The 252 returns of rows 147 to 398. That of row 147 begins at its close.
        assert torch.equal(past.returns, asked.returns[147:399].double()) and len(past.cash) == 252
        assert past.usable.tolist() == [True, True, usable, True, True]
    assert len(known(asked, 61).returns) == 60 and known(asked, 60) is None


def test_monthly_equal_weight_trades_in_the_first_session_of_each_month():
    asked = market()
    _, hold = BASELINES["equal_weight_monthly"].targets(Question(asked, ROWS))
    traded = [asked.date_of(row) for row in ROWS if not hold[row - ROWS.start]]
    # The calendar of these markets has a session on every day.
    assert traded[0] == asked.date_of(330) and [day.day for day in traded[1:]] == [1] * (len(traded) - 1)
    assert len(traded) == 1 + len(
        {(d.year, d.month) for d in map(asked.date_of, ROWS)} - {(traded[0].year, traded[0].month)}
    )


def calm(returns) -> object:
    """Two assets and a path of their returns."""
    returns = torch.tensor(returns)
    return replace(random_market(len(returns), 2, listing=False), returns=returns)


def test_a_band_is_left_by_known_drift_alone():
    # Equal weights of two assets: off by a fifth means 0.6 to 0.4, a growth of one by 1.5 relative to the other.
    still = [[0.0, 0.0]] * 3
    for gain, trades_again in ((0.49, False), (0.51, True)):
        asked = calm([*still, [gain, 0.0], *still, [0.0, gain], *still])
        weights, hold = BASELINES["equal_weight_banded"].targets(Question(asked, range(1, 11)))
        # Row 3 earns it until the close of 4, which the decision in row 5 knows.
        assert [row for row in range(1, 11) if not hold[row - 1]] == ([1, 5, 9] if trades_again else [1])
        assert (weights[:, :2] == 0.5).all()


def test_the_drift_that_decides_is_that_of_the_ledger_with_its_costs():
    asked = market()
    filled = asked.fillable & (torch.rand(450, 5, generator=torch.Generator().manual_seed(1)) < 0.7)
    asked = replace(asked, fillable=filled)
    rows = range(150, 400)  # with a delisting
    targets, _ = BASELINES["equal_weight_banded"].targets(Question(asked, rows))
    hold = within_band(asked, rows, targets, 0.1)
    assert 0.02 < (~hold).double().mean() < 0.5
    costs = Coefficients(spread=0.0002, slippage=(0.00025,) * 5, impact=0.01)
    holdings = [0.0] * 5 + [1.0]
    for k, t in enumerate(rows):
        target = targets[k].tolist()
        if k > 0:
            known = [h / sum(holdings) for h in holdings]
            near = all(abs(w - goal) <= 0.1 * goal for w, goal in zip(known[:5], target[:5], strict=True))
            assert near == bool(hold[k]), asked.date_of(t)
            holdings = scalar_grow(holdings, asked.returns[t - 1].tolist(), float(asked.cash_return[t - 1]))
        holdings = scalar_settle(holdings, asked.delisted[t].tolist())
        if not hold[k]:
            holdings = trade(holdings, target, costs, asked.fillable[t].tolist())[0]
