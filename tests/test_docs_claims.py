"""README and docs name files, commands, flags, targets and keys: all of them must exist."""

import dataclasses
import importlib
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from tactician.cli import VERBS
from tactician.commands.flags import spellings

PAGES = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))]


def flags(verb: str) -> set[str]:
    """What the command line of a verb takes; nothing for a verb that does not exist."""
    if verb not in VERBS:
        return set()
    module = importlib.import_module(f"tactician.commands.{verb.replace('-', '_')}")
    kinds = [kind for kind in vars(module).values() if dataclasses.is_dataclass(kind)]
    (arguments,) = [kind for kind in kinds if kind.__module__ == module.__name__]
    return spellings(arguments)


def code_in(text: str) -> list[str]:
    """Lines of code blocks, fenced or indented, and the code inside of sentences; a continued line counts as one."""
    fence = re.compile(r"^```.*?\n(.*?)^```", re.M | re.S)
    blocks = fence.findall(text)
    prose = fence.sub("", text)
    blocks += re.findall(r"^ {4}.*$", prose, re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0] for line in lines] + re.findall(r"`([^`]+)`", prose)


COMMAND = re.compile(r"(?:(?<!from )(?<![\w./-])tactician\s+(?!import\b)|src/apps/)([a-z][\w-]*)(?:\.py)?([^|;&>]*)")
FLAG = re.compile(r"(?<![\w-])--?[a-z][\w-]*")


def wrong_commands(text: str) -> list[str]:
    """Verbs and flags in the code of a page that do not exist; a flag without a command must be some verb's."""
    wrong = []
    for code in code_in(text):
        for word, rest in COMMAND.findall(code):
            verb = word.replace("_", "-")
            wrong += [] if verb in VERBS else [word]
            wrong += [f"{word} {flag}" for flag in FLAG.findall(rest) if flag not in flags(verb)]
        if code.startswith("-"):
            wrong += [flag for flag in FLAG.findall(code) if not any(flag in flags(verb) for verb in VERBS)]
    return wrong


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Run `tactician foo`, or `tactician train --amp`.", ["foo"]),
        ("    tactician trian --config my.yaml", ["trian", "trian --config"]),
        ("```bash\nmake setup && tactician appraise --json  # what came out\n```", ["appraise", "appraise --json"]),
        ("Run `python src/apps/judge.py`.", ["judge"]),
        ("Run `python src/apps/build_cache.py --dry-run`.", ["build_cache --dry-run"]),
        (
            "```\ntactician train --config my.yaml \\\n  --hold-prior 0.9\n```",
            ["train --hold-prior"],
        ),  # a key of files only
        ("```\ntactician train -v --no-amp --no-verbose | tactician costs -v\n```", ["train --no-verbose", "costs -v"]),
        ("`tactician learnability --config my.yaml`", ["learnability --config"]),
        ("Of `--cost-warmup 3`, `--seeds 3` and `-v`.", ["--cost-warmup"]),
        ("The tactician wins --always; `import tactician`, `from tactician import train`, `tactician VERB`.", []),
        ("```python\nimport tactician\n\nprint(tactician.train)\n```", []),
    ],
)
def test_a_command_that_does_not_exist_is_found(text, wrong):
    assert wrong_commands(text) == wrong


def test_the_configuration_page_is_the_configuration():
    page = runpy.run_path("docs/make_configuration.py")["page"]()
    assert Path("docs/configuration.md").read_text(encoding="utf-8") == page, "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:src|docs|tests|benchmarks)/[\w/.-]+\.\w+)", text))
    named |= {str(page.parent / target) for target in re.findall(r"\]\(([^)#:]+)\)", text)}
    missing = {name for name in named if not Path(name).exists() and not Path(page.parent, name).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_that_are_shown_have_verbs_flags_and_targets_that_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*##", Path("Makefile").read_text(), re.M))
    assert set(re.findall(r"^\s*make ([a-z-]+)", text, re.M)) | set(re.findall(r"`make ([a-z-]+)`", text)) <= targets
    assert not wrong_commands(text)


def test_the_page_of_dependencies_names_each_of_them_and_no_other():
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[<>=!~;\[ ]", line)[0] for lines in requirements for line in lines}
    rows = re.findall(r"^\| ([^|]+) \|", Path("docs/dependencies.md").read_text(encoding="utf-8"), re.M)
    named = {name.strip(" `") for row in rows[1:] for name in re.sub(r"\(.*?\)", "", row).split(",")}
    assert named == declared
