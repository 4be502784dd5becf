"""The replay: the cycle of live trading over past sessions equals the backtest, whatever interrupts it."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tactician.errors import UserError
from tactician.portfolio.frictions import Frictions
from tactician.trading.journal import Journal
from tactician.trading.replay import unlimited
from tactician.trading.simulated import Script
from tests.trading.replays import CASH, killed_replay, replayed


def orders_of(folder: Path) -> list[tuple]:
    db = sqlite3.connect(folder / "journal.sqlite")
    return db.execute("SELECT * FROM orders ORDER BY number").fetchall()


def account_of(folder: Path) -> list[tuple]:
    db = sqlite3.connect(folder / "broker.sqlite")
    return db.execute("SELECT state FROM account").fetchall()


def test_wealth_equals_the_backtest(advisor, tmp_path):
    done = replayed(advisor, tmp_path, range(400, 450))
    assert done.difference < 1e-9
    assert done.orders > 30 and len(done.wealth) == 51  # otherwise nothing is shown
    assert float(done.wealth.std()) > 1e-3


def test_it_equals_the_backtest_with_missing_bars_and_impact_on_volume(advisor, tmp_path):
    fillable = advisor.raw.fillable.clone()
    fillable[405:420, 1] = False
    fillable[407:409] = False
    holed = {"fillable": fillable, "dollar_volume": torch.full_like(advisor.raw.dollar_volume, 5e6)}
    env = replace(
        advisor.env,
        market=replace(advisor.env.market, **holed),
        frictions=Frictions(impact=0.0, impact_adv=0.5, commission=0.0003),
    )
    done = replayed(replace(advisor, env=env, raw=replace(advisor.raw, **holed), _paper={}), tmp_path, range(400, 430))
    assert done.difference < 1e-9 and done.orders > 20
    dates = [str(advisor.raw.date_of(row)) for row in range(405, 420)]
    assert not [row for row in orders_of(tmp_path) if row[2] in dates and row[3] == "BBB"]


def test_a_limit_refuses_the_whole_day_and_the_replay_tells_it(advisor, tmp_path):
    account = unlimited(Path("model.pt"), CASH).model_copy(update={"max_order": 0.01})
    done = replayed(advisor, tmp_path, range(400, 410), account=account)
    assert done.refused and "max_order" in done.refused[0][1]
    assert done.difference > 1e-9


def test_what_a_broker_does_not_fill_is_missing_in_the_wealth_and_the_account_stays_sound(advisor, tmp_path):
    script = Script(filled={"AAA": 0.5}, rejected={"BBB": "no"}, gap={"CCC": 0.003})
    done = replayed(advisor, tmp_path, range(400, 420), script=script)
    assert done.difference > 1e-9
    journal = Journal(tmp_path / "journal.sqlite")
    by_symbol = {entry.symbol: entry.state for entry in journal.orders()}
    assert by_symbol["BBB"] == "rejected" and by_symbol["AAA"] == "canceled"
    assert all(entry.filled <= entry.quantity <= entry.planned for entry in journal.orders())


def test_a_finished_replay_is_not_traded_again(advisor, tmp_path):
    first = replayed(advisor, tmp_path, range(400, 410))
    events = len(list(Journal(tmp_path / "journal.sqlite").events()))
    again = replayed(advisor, tmp_path, range(400, 410))
    assert torch.equal(first.wealth, again.wealth)
    assert len(list(Journal(tmp_path / "journal.sqlite").events())) == events


def test_another_range_does_not_go_into_the_same_folder(advisor, tmp_path):
    replayed(advisor, tmp_path, range(400, 403))
    with pytest.raises(UserError, match="another model or range"):
        replayed(advisor, tmp_path, range(400, 404))


def check_killed(model: Path, advisor, folder: Path, rows: range, kills: int) -> None:
    undisturbed = replayed(advisor, folder / "whole", rows)
    assert killed_replay(model, folder / "killed", rows, kills, seed=0) == kills
    after = replayed(advisor, folder / "killed", rows)
    assert torch.equal(after.wealth, undisturbed.wealth)
    assert orders_of(folder / "killed") == orders_of(folder / "whole")
    assert account_of(folder / "killed") == account_of(folder / "whole")
    Journal(folder / "killed/journal.sqlite").verify()


def test_a_replay_that_is_killed_ends_bit_equal(model, advisor, tmp_path):
    check_killed(model, advisor, tmp_path, range(400, 425), kills=8)


@pytest.mark.slow
def test_250_sessions_killed_100_times_end_bit_equal(model, advisor, tmp_path):
    check_killed(model, advisor, tmp_path, range(300, 550), kills=100)
