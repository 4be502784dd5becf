"""The command line as a process: what it answers at once, in which encoding, and to whom."""

import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tactician import __version__
from tactician.cli import VERBS, main
from tactician.commands import streams

HEAVY = ("torch", "pandas", "numpy", "pyarrow", "skfolio", "exchange_calendars", "yfinance", "tensorboard")


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tactician", *words], capture_output=True, env={**os.environ, **environment}, timeout=120
    )


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"], ["costs", "--version"]])
def test_the_version_is_printed(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"tactician {__version__}\n"


def test_without_a_verb_the_verbs_are_listed(capsys):
    assert main([]) == 2
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in VERBS)
    assert main(["--help"]) == 0


def test_help_version_and_arguments_need_nothing_that_is_slow_to_import(tiny):
    """Torch and pandas take seconds to import. A person sees help, a mistake or a first line before that."""
    script = f"""
        import sys

        class Refusal:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {HEAVY}:
                    raise AssertionError(f"{{name}} is imported")

        sys.meta_path.insert(0, Refusal())
        from tactician.cli import VERBS, main
        from tactician.commands.build_cache import CacheArguments
        from tactician.commands.costs import CostArguments
        from tactician.commands.flags import parse
        from tactician.commands.train import TrainArguments
        from tactician.monitor.progress import Reporter

        assert main(["--version"]) == 0
        for verb in VERBS:
            assert main([verb, "--help"]) == 0
            assert main([verb, "--nonsense"]) == 2
        for kind in (TrainArguments, CacheArguments, CostArguments):
            parse(kind, "verb", ["--config", {str(tiny)!r}])
        Reporter().say("The first line.")
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("The first line.\n")


PLAIN = "5–6 %, 1 ± 2, 3 × 4, a·√b, x → y … ✓ ─━╌ ┌│┘"


@pytest.mark.parametrize(
    ("encoding", "plain"),
    [
        ("utf-8", PLAIN),
        ("ascii", "5-6 %, 1 +/- 2, 3 x 4, a*sqrtb, x -> y ... ok --- +|+"),
        ("cp1252", "5–6 %, 1 ± 2, 3 × 4, a·sqrtb, x -> y … ok --- +|+"),
    ],
)
def test_signs_that_an_encoding_lacks_become_plain_ones(monkeypatch, encoding, plain):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    streams.prepare()
    print(PLAIN)
    streams.flush()
    assert out.buffer.getvalue().decode(encoding) == plain + "\n"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("  📥 Reading bars", "  Reading bars"),
        ("  ⚖️  Judging", "  Judging"),
        ("  🧾", "  "),
        ("Zoë/日本.csv", "Zo\\xeb/\\u65e5\\u672c.csv"),
        ("bytes \udcff.csv", "bytes \\udcff.csv"),
    ],
)
def test_pictures_go_and_names_stay_readable(monkeypatch, text, plain):
    err = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", err)
    streams.prepare()
    print(text, file=sys.stderr)
    streams.flush()
    assert err.buffer.getvalue().decode("ascii") == plain + "\n"


@pytest.mark.parametrize("encoding", [pytest.param("cp1252", marks=pytest.mark.slow), "ascii"])
def test_a_whole_run_needs_no_unicode(tiny, tmp_path, encoding):
    plain = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    folder = tmp_path / "run"
    run = ("--config", str(tiny), "--checkpoint-dir", str(folder), "--iterations", "1", "-v")
    cache = ("--config", str(tiny), "--cache-path", str(tmp_path / "cache.pt"))
    others = (["train", "--dry-run", *run], ["costs", *run[:2]], ["build-cache", *cache]) if encoding == "ascii" else ()
    for words in (["train", *run], *others):
        done = process(*words, **plain)
        said = (done.stdout + done.stderr).decode(encoding)
        assert done.returncode == 0 and "Traceback" not in said, said
        assert not {sign for sign in said if ord(sign) > 127 and encoding == "ascii"}
        assert "?" not in said.replace("does it hold for another seed?", "") and "\\u" not in said and "\\U" not in said
    assert (folder / "report.json").exists()


def test_the_help_needs_no_unicode():
    done = process("train", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"k*sqrt(x/V)*x" in done.stdout


READ_ENOUGH = {
    "the verbs": ["--help"],
    "help": ["train", "--help"],
    "help of the study": ["learnability", "--help"],
    "costs": ["costs", "--config", "TINY"],
    "training": ["train", "--config", "TINY", "--checkpoint-dir", "FOLDER", "--iterations", "2"],
}
READ_ENOUGH_SLOWLY = {
    "plan": ["train", "--config", "TINY", "--dry-run"],
    "cache": ["build-cache", "--config", "TINY", "--cache-path", "FOLDER/cache.pt"],
}


def without_reader(stream: str, words: list[str], **environment: str) -> tuple[int, bytes]:
    """Exit code of a program whose output nobody reads, and what it says on the other stream."""
    reading, writing = os.pipe()
    os.close(reading)
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    streams = {stream: writing, other: subprocess.PIPE}
    program = [sys.executable, "-m", "tactician", *words]
    environment = {"PYTHONUNBUFFERED": "", **environment}
    done = subprocess.run(program, **streams, env={**os.environ, **environment}, timeout=120)
    os.close(writing)
    return done.returncode, getattr(done, other)


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, id=name) for name, words in READ_ENOUGH.items()),
        *(pytest.param(words, id=name, marks=pytest.mark.slow) for name, words in READ_ENOUGH_SLOWLY.items()),
    ],
)
def test_whoever_has_read_enough_ends_the_program_without_a_word(tiny, tmp_path, words):
    words = [word.replace("TINY", str(tiny)).replace("FOLDER", str(tmp_path)) for word in words]
    assert without_reader("stdout", words) == (141, b"")


def test_it_is_the_same_without_buffers_and_for_a_mistake():
    assert without_reader("stdout", ["train", "--help"], PYTHONUNBUFFERED="1") == (141, b"")
    assert without_reader("stderr", ["train", "--resmue"]) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["--version"], ["evaluate", "--help"]])
def test_an_output_on_a_full_disk_is_told_in_a_sentence(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tactician", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (
        done.returncode == 2
        and done.stderr == "tactician: cannot write the output: No space left on device; make room.\n"
    )
