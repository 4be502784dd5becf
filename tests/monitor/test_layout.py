"""Prose breaks between words, figures between figures; paths and commands stay whole; nothing is cut."""

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from tactician.monitor.layout import cut, row, wrapped
from tactician.monitor.progress import Reporter
from tests.monitor.terminal import WIDTHS, Clock, coloured, fits, plain, reporter

PROSE = (
    "  Verdict: the agent is not distinguishable from equal weight (-2.9 % ± 2.6 % per year beside equal weight, "
    "one standard error)."
)
COMMAND = "python src/apps/train.py --config 'my configs/embedded sp500.yaml' --checkpoint-dir checkpoints/one --resume"
SHARES = ("turnover_daily", "cost_annual", "win_rate", "trade_return", "clip_fraction")
FIGURES = dict.fromkeys(("reward", "explained_variance", "entropy", "kl", *SHARES), 0.5) | {
    "trades": 1234567.0,
    "score": 33.0,
    "steps_per_second": 123456.7,
    "dropped_updates": 0.0,
    "gpu_reserved_gb": 9.25,
}


@pytest.mark.parametrize("width", WIDTHS)
def test_prose_breaks_between_words_and_hangs(width):
    told = reporter(width)
    told.say(PROSE)
    lines = plain(told)
    assert fits(lines, width) and (len(lines) > 1) == (len(PROSE) > width)
    assert " ".join(line.strip() for line in lines) == PROSE.strip(), "nothing is cut and no word divided"
    assert all(re.match(r"    \S", line) for line in lines[1:]), "further lines stand two further in"


@pytest.mark.parametrize("width", range(14, 140))
def test_numbers_keep_their_unit_and_their_error(width):
    lines = [line.plain for line in wrapped(Text(PROSE), width)]
    assert any("-2.9 % ± 2.6 %" in line for line in lines)


def test_elsewhere_a_message_is_one_line():
    told = reporter(40, terminal=False)
    told.say(PROSE)
    told.figures(FIGURES)
    lines = plain(told)
    assert lines[0] == PROSE and len(lines) == 3


@pytest.mark.parametrize("width", WIDTHS)
def test_a_command_is_never_divided(width):
    told = reporter(width)
    told.say(f"  Stopped and saved run/model.pt. Go on with: {COMMAND}  (with the flags of this run)", whole=[COMMAND])
    lines = plain(told)
    (line,) = [line for line in lines if COMMAND in line]
    if width < len(COMMAND):
        assert line.strip() == COMMAND, "it runs over on a line of its own"
    assert fits([other for other in lines if other != line], width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_path_with_blanks_is_never_divided(width):
    path = "/home/a person/all my results/of the first run"
    told = reporter(width)
    told.warn(f"{path} held an earlier run, which is now in {path}-2.", whole=[path])
    assert sum(path in line for line in plain(told)) == 2


def test_a_long_word_runs_over_whole():
    path = "checkpoints/" + "x" * 60 + "/model_best.pt"
    told = reporter(40)
    told.say(f"  Model:   {path} (last: model_final.pt)")
    assert [line.strip() for line in plain(told)] == ["Model:", path, "(last: model_final.pt)"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_figures_of_an_iteration_break_between_figures(width):
    told, wide = reporter(width), reporter(300)
    for each in (told, wide):
        each.figures(FIGURES)
    lines = plain(told)
    assert fits(lines, width)
    figures = [figure.strip() for line in plain(wide) for figure in line.split(" | ")]
    assert [figure.strip() for line in lines for figure in line.split(" | ")] == figures and len(figures) == 13
    assert all(re.match(r" {5}\S", line) for line in lines[1:]), "under the first figure"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_header_of_an_iteration_fits(width):
    told = reporter(width)
    told.iteration(1, 0, 1_048_576)
    lines = plain(told)
    assert fits(lines, width) and set(lines[0]) == set(lines[-1]) == {"="}
    assert " | ".join(line.strip() for line in lines[1:-1]) == "🔄 Iteration 1 | Steps: 0/1,048,576 (0.0%)"


def test_signs_that_take_two_cells_count_as_two():
    line = Text("  💾 " + "éà 中文 " * 5)
    made = wrapped(line, 20)
    assert all(part.cell_len <= 20 for part in made) and len(made) > 1
    assert made[1].plain.startswith("     é"), "under the text behind the sign"


def test_blanks_inside_a_line_that_fits_stay():
    assert [line.plain for line in wrapped(Text("  bad_price    12    AAA 2020-01-02"), 80)] == [
        "  bad_price    12    AAA 2020-01-02"
    ]


def test_lines_of_a_message_stay_lines():
    assert [line.plain for line in wrapped(Text("one\n\ntwo"), None)] == ["one", "", "two"]


def test_styles_survive_a_break():
    line = Text("  Model score: ") + Text("+44.1", style="green") + Text(" on a scale of -90 to +90")
    second = wrapped(line, 16)[1]
    assert second.plain.startswith("    +44.1") and [s.style for s in second.spans] == ["green"]
    assert second.plain[second.spans[0].start : second.spans[0].end] == "+44.1"


def test_a_row_without_a_width_is_one_line():
    assert [line.plain for line in row([Text("  a 1"), Text("b 2")], None, 4)] == ["  a 1 | b 2"]
    assert [line.plain for line in row([Text("  a 1"), Text("b 2")], 8, 4)] == ["  a 1", "    b 2"]


def test_a_cut_text_says_so_and_fits():
    assert cut("abcdef", 6) == "abcdef" and cut("abcdef", 4) == "abc…" and cut("中文字", 4) == "中…"


def test_brackets_are_text_and_no_markup():
    told = reporter(80)
    told.say("  [bold]not bold[/bold] [red] data[0] [/] :smile: [link=x]")
    assert plain(told) == ["  [bold]not bold[/bold] [red] data[0] [/] :smile: [link=x]"]
    assert "\x1b" not in coloured(told)


def test_no_color_is_respected(monkeypatch):

    def told() -> str:

        page = Reporter("normal", Console(file=io.StringIO(), width=80, force_terminal=True))
        page.warn("mind the gap")
        page.figures(FIGURES)
        return coloured(page)

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33m" in told() and "\x1b[32m" in told()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", told())


def test_a_dumb_terminal_gets_no_control_codes(monkeypatch):

    monkeypatch.setenv("TERM", "dumb")
    clock = Clock()
    page = Reporter("normal", Console(file=io.StringIO(), force_terminal=True), clock=clock)
    page.warn("mind the gap")
    page.figures(FIGURES)
    with page.phase("📈 PPO Update", "batch") as phase:
        clock.now += 31
        phase.advance(1, 2)
    assert "📈 PPO Update: 1/2 batches (50%)" in coloured(page), "a line now and then, as in a log"
    assert "\x1b" not in coloured(page) and "\r" not in coloured(page)
    assert fits(plain(page), 80) and plain(page)[-1].startswith("  📈 PPO Update... done (31.0s)")
