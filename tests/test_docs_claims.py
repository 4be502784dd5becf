"""README and docs name files, commands, flags, targets and keys: all of them must exist."""

import re
import runpy
from pathlib import Path

import pytest

from tactician.cli import VERBS
from tactician.config import Config

PAGES = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))]
STUDY_FLAGS = {"markets", "variants", "seeds", "sweep", "out", "processes"}
OWN_FLAGS = {
    "config",
    "dry-run",
    "json",
    "verbose",
    "quiet",
    "on",
    "help",
    "logdir",
    "resume",
    "checkpoint",
    *STUDY_FLAGS,
}


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
    known = {name.replace("_", "-") for name in Config.model_fields} | OWN_FLAGS
    for line in re.findall(
        r"^.*(?:src/apps/|tactician (?:train|build-cache|config|costs|learnability)).*$", text, re.M
    ):
        for verb in re.findall(r"src/apps/(\w+)\.py", line):
            assert verb.replace("_", "-") in VERBS, line
        assert set(re.findall(r"\s--([a-z][a-z-]+)", line)) <= known, line
