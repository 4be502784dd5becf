"""A user's mistake: one sentence that names it, exit code 2, nothing half-written."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tactician.cli import main
from tests.conftest import synthetic_bars


def with_bars(tiny: Path, folder: Path, frame: pd.DataFrame) -> tuple[str, Path]:
    """A configuration like the tiny one, with other bars and a cache that does not exist yet."""
    frame.to_csv(folder / "bars.csv", index=False)
    settings = yaml.safe_load(tiny.read_text()) | {
        "bars": str(folder / "bars.csv"),
        "cache_path": str(folder / "out" / "cache.pt"),
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(settings))
    return str(folder / "c.yaml"), folder / "out"


def broken(rows: slice | int, **values: float) -> pd.DataFrame:
    frame = synthetic_bars()
    for column, value in values.items():
        frame.loc[rows, column] = value
    return frame


def every_week(frame: pd.DataFrame) -> pd.DataFrame:
    days = pd.DatetimeIndex(sorted(frame["date"].unique()))[::5]
    return frame[frame["date"].isin(days)]


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (lambda: synthetic_bars().iloc[:0], "is empty"),
        (lambda: synthetic_bars().drop(columns=["close", "adj_close"]), "has no column 'close'"),
        (lambda: synthetic_bars(symbols=("AAA",)), "has no bars of BBB, CCC, DDD"),
        (lambda: synthetic_bars(last="2010-11-30"), "sessions are too few"),
        (lambda: broken(slice(100, 1000, 8), close=np.nan), "AAA would lose more bars than a repair may take"),
        (lambda: every_week(synthetic_bars()), "AAA 2010-01-04 and later: weekly bars"),
    ],
)
def test_bars_that_cannot_be_mended_are_refused_and_leave_no_cache(tiny, tmp_path, refused, frame, name):
    config, out = with_bars(tiny, tmp_path, frame())
    said = refused("build-cache", "--config", config)
    assert name in said and str(tmp_path / "bars.csv") in said
    assert not (out / "cache.pt").exists()


FAULTS = [
    (lambda: broken(100, close=np.nan), "AAA 2010-02-09", "non_finite_price"),
    (lambda: broken(101, adj_close=-3.0), "BBB 2010-02-09", "non_positive_price"),
    (lambda: broken(102, high=1.0), "CCC 2010-02-09", "ohlc_order"),
    (lambda: pd.concat([synthetic_bars(), synthetic_bars().iloc[-1:]]), "DDD 2013-12-31", "duplicate_rows"),
]


@pytest.mark.parametrize(("frame", "where", "name"), FAULTS)
def test_single_faults_are_repaired_told_and_listed(tiny, tmp_path, capsys, frame, where, name):
    config, out = with_bars(tiny, tmp_path, frame())
    assert main(["build-cache", "--config", config]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == [name])
    assert where in line
    listed = pd.read_csv(out / "cache.pt.findings.csv").set_index("finding")
    assert listed.loc[name, "symbol"] == where.split()[0] and listed.loc[name, "date"] == where.split()[1]
    assert (out / "cache.pt").exists()


@pytest.mark.parametrize(("frame", "where", "name"), FAULTS)
def test_strict_stops_at_each_of_them_with_the_list_and_without_a_cache(tiny, tmp_path, refused, frame, where, name):
    config, out = with_bars(tiny, tmp_path, frame())
    said = refused("build-cache", "--config", config, "--on-findings", "strict")
    assert where in said and f"[{name}]" in said and "--on-findings repair" in said
    assert f"{out / 'cache.pt.findings.csv'} lists every fault" in said
    assert sorted(file.name for file in out.iterdir()) == ["cache.pt.findings.csv"]


def test_a_build_that_stops_leaves_an_older_cache_as_it_was(tiny, tmp_path, refused):
    config, out = with_bars(tiny, tmp_path, synthetic_bars())
    assert main(["build-cache", "--config", config]) == 0
    before = (out / "cache.pt").read_bytes()
    with_bars(tiny, tmp_path, every_week(synthetic_bars()))
    refused("build-cache", "--config", config)
    assert (out / "cache.pt").read_bytes() == before


def test_a_list_of_old_findings_does_not_stay(tiny, tmp_path):
    config, out = with_bars(tiny, tmp_path, broken(100, close=np.nan))
    settings = yaml.safe_load(Path(config).read_text()) | {"closes": "as_traded"}
    Path(config).write_text(yaml.safe_dump(settings))
    assert main(["build-cache", "--config", config]) == 0 and (out / "cache.pt.findings.csv").exists()
    synthetic_bars().to_csv(tmp_path / "bars.csv", index=False)
    assert main(["build-cache", "--config", config]) == 0
    assert [file.name for file in out.iterdir()] == ["cache.pt"]


def test_where_the_list_cannot_be_written_the_bars_are_still_what_is_told(tiny, tmp_path, refused):
    config, _ = with_bars(tiny, tmp_path, every_week(synthetic_bars()))
    (tmp_path / "file").write_text("in the way")
    said = refused("build-cache", "--config", config, "--cache-path", str(tmp_path / "file" / "c.pt"))
    assert "[weekly_bars]" in said


def test_one_asset_is_not_a_portfolio(tiny, tmp_path, refused):
    config, out = with_bars(tiny, tmp_path, synthetic_bars(symbols=("AAA",)))
    settings = yaml.safe_load(Path(config).read_text()) | {"universe": {"only": ["AAA"]}}
    Path(config).write_text(yaml.safe_dump(settings))
    assert "[one_asset]" in refused("build-cache", "--config", config)
    assert not (out / "cache.pt").exists()


def test_unreadable_bars(tiny, tmp_path, refused):
    (tmp_path / "noise.parquet").write_bytes(os.urandom(2000))
    for bars in (tmp_path / "noise.parquet", tmp_path / "nowhere.csv", tmp_path):
        assert str(bars) in refused(
            "build-cache", "--config", str(tiny), "--bars", str(bars), "--cache-path", str(tmp_path / "c.pt")
        )
    assert not (tmp_path / "c.pt").exists()


def test_a_missing_cache_says_which_command_makes_it(tiny, tmp_path, refused):
    said = refused("train", "--config", str(tiny), "--cache-path", str(tmp_path / "none.pt"))
    assert f"tactician build-cache --config {tiny} --cache-path {tmp_path / 'none.pt'}" in said


def test_a_cache_built_from_other_settings_is_refused(tiny, refused):
    said = refused("train", "--config", str(tiny), "--cash-rate", "0.2")
    assert "cash_rate = 0.01, but 0.2 is asked for" in said and "--cash-rate 0.2" in said


def test_flags_that_contradict_one_another(tiny, refused):
    assert "--verbose and --quiet" in refused("train", "--config", str(tiny), "-v", "-q")
    assert "--json goes with --dry-run" in refused("train", "--config", str(tiny), "--json")
    assert "n_steps (48) and episode_length (32)" in refused("train", "--config", str(tiny), "--n-steps", "48")


def test_flags_that_are_not_there(tiny, refused):
    assert "--make-money is no flag" in refused("train", "--config", str(tiny), "--make-money")
    assert "no verb 'trade-live'" in refused("trade-live")


def test_a_flag_out_of_range_is_named(tiny, refused):
    assert "--dropout cannot be '1.5': it must be below 1." in refused(
        "train", "--config", str(tiny), "--dropout", "1.5"
    )


def test_a_range_with_too_few_sessions_for_an_episode(tiny, refused):
    said = refused("train", "--config", str(tiny), "--episode-length", "1024", "--n-steps", "1024")
    assert "too few for one episode of 1024" in said and "train_until" in said


def test_an_empty_test_range(tiny, refused):
    assert "The test range has 0 sessions" in refused(
        "train", "--config", str(tiny), "--validation-until", "2014-01-31"
    )


def test_an_unwritable_output_folder(tiny, tmp_path, refused):
    (tmp_path / "file").write_text("in the way")
    said = refused("train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "file" / "run"))
    assert "Cannot write" in said and "--checkpoint-dir" in said
    said = refused("build-cache", "--config", str(tiny), "--cache-path", str(tmp_path / "file" / "c.pt"))
    assert "Cannot write" in said
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_device_that_is_not_there(tiny, refused):
    assert "--device cuda:99 is not available" in refused("train", "--config", str(tiny), "--device", "cuda:99")
    assert "--device meta is not available" in refused("train", "--config", str(tiny), "--device", "meta")


def test_a_static_table_without_enough_groups(tiny, tmp_path, refused):
    settings = yaml.safe_load(tiny.read_text()) | {"universe": {"all": ["AAA", "BBB", "CCC", "DDD"]}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings))
    assert "universe" in refused("train", "--config", str(tmp_path / "c.yaml"), "--regimes", "static")


def test_a_session_that_is_not_in_the_market(tiny, refused):
    assert "no session" in refused("costs", "--config", str(tiny), "--on", "2012-12-25")
    assert "is no date" in refused("costs", "--config", str(tiny), "--on", "yesterday")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("spread", "2"),
        ("slippage-max", "0.2"),
        ("impact", "50"),
        ("commission", "1"),
        ("impact-adv", "11"),
        ("portfolio-value", "1e16"),
    ],
)
def test_costs_beyond_all_markets_are_refused_before_anything_is_written(tiny, tmp_path, refused, flag, value):
    said = refused("train", "--config", str(tiny), "--checkpoint-dir", str(tmp_path / "run"), f"--{flag}", value)
    assert f"--{flag} cannot be '{value}': it must be at most " in said
    assert not (tmp_path / "run").exists()


def test_a_symbol_that_yaml_takes_for_true_is_refused(tiny, tmp_path, refused):
    (tmp_path / "c.yaml").write_text(tiny.read_text().replace("- AAA", "- ON"))
    for verb in ("build-cache", "train"):
        assert 'YAML reads ON as true: write "ON" in quotes' in refused(verb, "--config", str(tmp_path / "c.yaml"))
