"""A running phase: its percentage is always seen, its time left is told, and a log shows life."""

import re

import pytest
from rich.cells import cell_len

from tactician.monitor.phase import LIFE_SIGN, Phase
from tests.monitor.terminal import WIDTHS, Clock, coloured, fits, plain, reporter

LABELS = {
    "🎲 Collecting rollout (256 steps × 2,048 envs)": ("step", ""),
    "📈 PPO Update": ("batch", "Epoch 2/4"),
    "🎯 Critic Update": ("batch", "Extra Epoch 2/4"),
}


def running(label: str, done: int, total: int, seconds: float = 60.0) -> Phase:
    clock = Clock()
    unit, detail = LABELS[label]
    phase = Phase(clock=clock, label=label, unit=unit)
    clock.now = seconds
    phase.advance(done, total, detail)
    return phase


def test_the_line_is_the_specifications():
    assert running("📈 PPO Update", 500, 2048, 0.5).line() == "  📈 PPO Update: 500/2048 batches (24%) | Epoch 2/4"
    line = running("🎯 Critic Update", 1500, 2048, 0.5).line()
    assert line == "  🎯 Critic Update: 1500/2048 batches (73%) | Extra Epoch 2/4"


@pytest.mark.parametrize("label", list(LABELS))
@pytest.mark.parametrize("width", [1, 2, 5, 12, 20, 30, *WIDTHS])
def test_the_percentage_is_seen_at_every_width(width, label):
    line = running(label, 500, 2048).line(width)
    assert "24%" in line or width < 5
    assert cell_len(line) <= width or width < 5


def test_what_has_no_room_goes_in_order_bar_detail_time_left_numbers():
    def shown(width: int) -> str:
        line = running("📈 PPO Update", 500, 2048).line(width)
        parts = {"b": "━", "d": "Epoch 2/4", "l": "left", "n": "500/2048 batches", "p": "24%"}
        return "".join(key for key, part in parts.items() if part in line)

    assert list(dict.fromkeys(shown(width) for width in range(120, 16, -1))) == ["bdlnp", "dlnp", "lnp", "np", "p"]


@pytest.mark.parametrize("label", list(LABELS))
def test_the_bar_is_shortened_before_anything_is_left_out(label):
    phase = running(label, 500, 2048)
    lengths = {width: len(re.findall("[━╌]", phase.line(width))) for width in range(130, 60, -1)}
    assert lengths[130] == 20
    in_full = phase.line()[len("  ") :]
    assert all(
        0 <= a - b <= (1 if b else 4) for a, b in zip(lengths.values(), list(lengths.values())[1:], strict=False)
    )
    for width, length in lengths.items():
        if length:
            said = re.sub("[━╌]+ ", "", phase.line(width))
            assert said.strip() == in_full


@pytest.mark.parametrize("width", [70, 80, 90])
def test_the_bar_keeps_its_length_while_the_digits_grow(width):
    lines = [running("📈 PPO Update", done, 2048, 0.5).line(width) for done in (0, 9, 99, 999, 2048)]
    assert len({len(re.findall("[━╌]", line)) for line in lines}) == 1 and "╌" in lines[0]


def test_the_bar_shows_the_share():
    assert running("📈 PPO Update", 512, 2048).line(200).count("━") == 5
    assert running("📈 PPO Update", 2048, 2048).line(200).count("━") == 20


def test_work_is_not_complete_before_its_end():
    assert "(99%)" in running("📈 PPO Update", 9999, 10000).line()


def test_one_batch_is_singular():
    assert "1/1 batch (100%)" in running("📈 PPO Update", 1, 1).line()
    assert "0/2 batches (0%)" in running("📈 PPO Update", 0, 2).line()


def test_time_left_follows_the_pace():
    assert running("📈 PPO Update", 500, 2000, 60).line().endswith("| Epoch 2/4 | about 3 min left")
    assert "left" not in running("📈 PPO Update", 0, 2000, 60).line(), "nothing is known before the first batch"
    assert "left" not in running("📈 PPO Update", 500, 2000, 1.1).line(), "4.4 s in all need no forecast"


def test_work_of_unknown_size_shows_its_time():
    clock = Clock()
    phase = Phase(clock=clock, label="🔎 Validating")
    clock.now = 12.4
    assert phase.line(80) == "  🔎 Validating... 12 s"
    phase.expected = 20.0
    assert phase.line(80) == "  🔎 Validating... 12 s | about 8 s left"
    assert phase.line(24) == "  🔎 Validating... 12 s"
    assert phase.line(12) == "  🔎 Valida…"


def test_a_phase_that_was_seen_before_has_a_time_left():
    clock = Clock()
    told = reporter(80, terminal=False, clock=clock)
    with told.phase("🔎 Validating"):
        clock.now += 20
    with told.phase("🔎 Validating") as phase:
        clock.now += 5
        assert phase.line() == "  🔎 Validating... 5 s | about 15 s left"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_terminal_shows_the_line_and_clears_it(width):
    told = reporter(width)
    with told.phase("📈 PPO Update", "batch") as phase:
        phase.advance(500, 2048, "Epoch 2/4")
    said = coloured(told)
    assert "24%" in said and "\x1b[2K" in said
    lines = plain(told)
    assert fits(lines, width) and lines[-1].strip() == "📈 PPO Update... done (0.0s)"


def test_a_log_gets_a_plain_line_now_and_then():
    clock = Clock()
    told = reporter(80, terminal=False, clock=clock)
    with told.phase("📈 PPO Update", "batch") as phase:
        for done in range(1, 101):
            clock.now += 1.0
            phase.advance(done, 100, "Epoch 1/1")
    lines = plain(told)
    assert [line.split()[3] for line in lines] == ["30/100", "60/100", "90/100", "done"]
    assert lines[0] == "  📈 PPO Update: 30/100 batches (30%) | Epoch 1/1 | about 1 min left"
    assert lines[-1] == "  📈 PPO Update... done (100.0s)" and LIFE_SIGN == 30


def test_a_log_of_short_work_has_no_such_lines():
    clock = Clock()
    told = reporter(80, terminal=False, clock=clock)
    with told.phase("📈 PPO Update", "batch") as phase:
        for done in range(1, 101):
            clock.now += 0.25
            phase.advance(done, 100)
    assert plain(told) == ["  📈 PPO Update... done (25.0s)"]


@pytest.mark.parametrize("terminal", [True, False])
def test_quiet_says_nothing_of_a_phase(terminal):
    clock = Clock()
    told = reporter(80, "quiet", terminal=terminal, clock=clock)
    with told.phase("📈 PPO Update", "batch") as phase:
        clock.now += 1000
        phase.advance(1, 2)
    assert coloured(told) == ""


def test_work_that_fails_is_not_called_done():
    told = reporter(80, terminal=False)
    with pytest.raises(ZeroDivisionError), told.phase("📈 PPO Update"):
        1 / 0  # noqa: B018
    assert plain(told) == [] and told.pace.work is None
