"""An ensemble in use: how far it is followed, what is said of it, and that it trades what was tested."""

from datetime import date

import pytest
import torch

from tactician.cli import main
from tactician.environment import load_cached_market
from tactician.evaluation import action_targets
from tactician.portfolio.frictions import Frictions
from tactician.trading.advice import Seat
from tactician.trading.cycle import decision_of
from tactician.trading.journal import FILE, Journal
from tactician.trading.shadow import shadow_of
from tactician.training.in_use import model_in_use
from tests.trading.replays import CASH, advisor_of, replayed
from tests.trained import configuration, ensemble_of, restless, train

ROWS = range(400, 412)
NOTHING, PART = (-0.1, 0.1), (0.001, 0.1)


@pytest.fixture(scope="module", params=["factor", "static"])
def alone(request, tiny, tmp_path_factory):
    """A single agent that trades every day, with a table that has a regime EQUAL_WEIGHT, or with one that has none."""
    path = configuration(tiny, tmp_path_factory.mktemp("alone"), regimes=request.param, report=False)
    assert train(path) == 0
    return restless(path.parent / "run" / "model_best.pt")


def advice_of(model):
    advisor = advisor_of(model)
    seat = Seat((0.0,) * len(advisor.raw.symbols) + (CASH,))
    return advisor.advise(advisor.raw.date_of(ROWS.start), seat)


def test_an_ensemble_that_has_found_nothing_advises_equal_weight_by_that_name(alone):
    advice = advice_of(ensemble_of(alone, *NOTHING))
    assert advice.regime == "EQUAL_WEIGHT" and advice.description == "Equal weight of all assets"
    assert advice.targets == pytest.approx((0.25,) * 4 + (0.0,)) and not advice.hold
    assert advice.probabilities["EQUAL_WEIGHT"] == 1.0
    assert advice.found.told.startswith("Hold equal weight: nothing found (held-out days: +0.0 % per year")


def test_an_ensemble_that_is_followed_in_part_mixes_its_targets_with_equal_weight(alone):
    whole, mixed = advice_of(alone), advice_of(ensemble_of(alone, *PART))
    strength = mixed.found.strength
    assert 0.5 < strength < 0.9 and mixed.regime == whole.regime
    expected = [
        strength * own + (1 - strength) * equal for own, equal in zip(whole.targets, (0.25,) * 4 + (0.0,), strict=True)
    ]
    assert mixed.targets == pytest.approx(expected)
    assert f"for {100 * strength:.0f} %; the rest in equal weight" in mixed.description


def test_a_single_agents_journal_has_nothing_new(alone):
    assert "found" not in decision_of(advice_of(alone))
    assert decision_of(advice_of(ensemble_of(alone, *NOTHING)))["found"].startswith("Hold equal weight")


@pytest.mark.parametrize("interval", [NOTHING, PART])
def test_what_trades_is_what_was_tested_and_its_shadow_follows_as_far(alone, interval, tmp_path):
    model = ensemble_of(alone, *interval)
    used = model_in_use(model)
    market = load_cached_market(used.config, "")
    done = replayed(used.advisor(market), tmp_path, ROWS)
    assert done.difference < 1e-9
    runs = Journal(tmp_path / FILE, writes=False).runs()
    followed = market.with_strength(used.strength)
    shadow = shadow_of(runs, followed, date.fromisoformat(runs[-1].session), Frictions.of(used.config), CASH)
    assert shadow.wealth[-1] > 0 and len(shadow.wealth) == len(ROWS)
    targets, _ = action_targets(followed, ROWS, torch.tensor([run.plan["decision"]["action"] for run in runs]))
    assert targets[0, 0].tolist() == pytest.approx(
        [runs[0].plan["weights"][s] for s in (*market.symbols, "CASH")], abs=1e-6
    )


def test_the_sheet_says_it_first_and_keeps_silent_about_what_is_not_followed(alone, tmp_path, capsys):
    for interval, told, why in ((NOTHING, "Hold equal weight: nothing found", 0), (PART, "Follow the agent for", 1)):
        model = ensemble_of(alone, *interval)
        assert main(["signal", "--checkpoint", str(model), "--on", "2013-05-15", "--store", str(tmp_path)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert said.index(told) < said.index("Regime:") and said.count("What moved the decision") == why


def test_a_regime_that_is_held_is_named_as_it_is_shown(alone, tmp_path):
    words = ["--on", "2013-05-15", "--store", str(tmp_path), "--regime", "EQUAL_WEIGHT", "--since", "3"]
    assert main(["signal", "--checkpoint", str(ensemble_of(alone, *NOTHING)), *words]) == 0
