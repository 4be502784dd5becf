"""Flags: near ones are suggested, wrong values are told in one sentence, the help is in sections."""

import dataclasses
import re
from typing import Annotated

import pytest
import tyro

from tactician.cli import VERBS, main
from tactician.commands.flags import flags_of, parse, spellings
from tactician.commands.learnability import LearnabilityArguments
from tactician.commands.train import TrainArguments
from tactician.config import Config, FileOnly, sections


def help_of(verb: str, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([verb, *words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "word", "meant"),
    [
        ("train", "--resmue", "--resume"),
        ("train", "-resume", "--resume"),
        ("train", "resume", "--resume"),
        ("train", "--verbos", "--verbose"),
        ("train", "--episode=10", "--episodes"),
        ("train", "–resume", "--resume"),
        ("train", "—seed=3", "--seed"),
        ("train", "−−dry-run", "--dry-run"),
        ("train", "–v", "-v"),
        ("train", "--no-ampp", "--no-amp"),
        ("train", "--hiden_dim", "--hidden-dim"),
        ("build-cache", "--on-finding", "--on-findings"),
        ("costs", "--jsn", "--json"),
        ("learnability", "--seed", "--seeds"),
    ],
)
def test_a_near_flag_is_suggested(refused, verb, word, meant):
    said = refused(verb, word)
    assert said == f"tactician {verb}: {word} is no flag of tactician {verb}; did you mean {meant}?"


@pytest.mark.parametrize("before", [["--episodes", "3"], ["--config", "rl_v2_multi_asset"], ["--quiet"]])
def test_a_dash_of_a_text_editor_is_no_value_of_the_flag_before_it(refused, before):
    assert refused("train", *before, "—seed", "3").endswith(
        ": —seed is no flag of tactician train; did you mean --seed?"
    )
    said = refused("learnability", "--markets", "null", "–seeds", "3")
    assert said.endswith(": –seeds is no flag of tactician learnability; did you mean --seeds?")


def test_other_values_may_begin_with_such_a_dash(tiny):
    words = ["--config", str(tiny), "--bars", "–2024–.csv"]
    assert parse(TrainArguments, "train", words)[1].bars == "–2024–.csv"


@pytest.mark.parametrize(
    ("verb", "word", "meant"),
    [
        ("train", "my.yaml", "--config my.yaml"),
        ("costs", "settings", "--config settings"),
        ("train", "embedded_sp500", "--config embedded_sp500"),
        ("build-cache", "configs/embedded_sp500.yaml", "--config configs/embedded_sp500.yaml"),
        ("build-cache", "my bars.csv", "--bars 'my bars.csv'"),
        ("train", "model.pt", "--checkpoint model.pt"),
    ],
)
def test_a_file_without_its_flag_is_told_the_flag(refused, tmp_path, monkeypatch, verb, word, meant):
    monkeypatch.chdir(tmp_path)
    for name in ("my.yaml", "settings", "my bars.csv", "model.pt"):
        (tmp_path / name).touch()
    assert refused(verb, word) == f"tactician {verb}: {word} is no flag of tactician {verb}; did you mean {meant}?"
    said = refused(verb, "--episodes", "3", word)
    assert said == f"tactician {verb}: --episodes takes one value, and '{word}' is left over; did you mean {meant}?"


@pytest.mark.parametrize(("verb", "word"), [("train", "absent.yaml"), ("train", "folder"), ("learnability", "my.yaml")])
def test_a_word_that_names_no_file_or_has_no_flag_there_is_no_configuration(refused, tmp_path, monkeypatch, verb, word):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").touch()
    (tmp_path / "folder").mkdir()
    assert refused(verb, word).endswith(f"{word} is no flag of tactician {verb}; tactician {verb} --help lists them.")


@pytest.mark.parametrize("written", ["{}=false", "{}=1", "{} true", "{} 0", "{}="])
@pytest.mark.parametrize(
    ("verb", "flag", "remedy"),
    [
        ("train", "--amp", "--amp is a switch; write --amp or --no-amp."),
        ("train", "--no-multi_gpu", "--multi-gpu is a switch; write --multi-gpu or --no-multi-gpu."),
        ("train", "--dry_run", "--dry-run is a switch; write --dry-run without a value."),
        ("train", "-v", "--verbose is a switch; write --verbose without a value."),
        ("learnability", "--sweep", "--sweep is a switch; write --sweep without a value."),
    ],
)
def test_a_switch_with_a_value_is_told_how_to_write_it(refused, written, verb, flag, remedy):
    assert refused(verb, *written.format(flag).split(" ")) == f"tactician {verb}: {remedy}"


@pytest.mark.parametrize(
    ("verb", "flag", "due"),
    [
        ("train", "--checkpoint", "--checkpoint PATH"),
        ("train", "--config", "--config PATH"),
        ("costs", "--checkpoint-dir", "--checkpoint-dir PATH"),
        ("build-cache", "--bars", "--bars TEXT"),
        ("train", "--cash-rate", "--cash-rate FLOAT|PATH"),
        ("learnability", "--out", "--out PATH"),
        ("learnability", "--markets", "--markets TEXT [TEXT ...]"),
    ],
)
@pytest.mark.parametrize("empty", ["", "  "])
def test_a_shell_variable_that_is_not_set_is_no_value(refused, verb, flag, due, empty):
    said = f"tactician {verb}: {flag} cannot be empty; write {due} (a shell variable that is not set is empty, too)."
    assert refused(verb, flag, empty) == refused(verb, f"{flag}={empty}") == said


def test_an_empty_word_is_shown_as_one(refused):
    assert refused("train", "").startswith("tactician train: '' is no flag of tactician train; ")


def test_a_flag_like_none_is_refused_with_where_they_are_listed(refused):
    said = refused("train", "--make-money", "10")
    assert said.endswith("--make-money is no flag of tactician train; tactician train --help lists them.")


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("cost", "costs"), ("build_cahce", "build-cache")])
def test_a_near_verb_is_suggested(refused, word, meant):
    assert refused(word) == f"tactician: there is no verb '{word}'; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("train", "--episodes ten", "--episodes cannot be 'ten': give a whole number."),
        ("train", "--timesteps 1.5", "--timesteps cannot be '1.5': give a whole number."),
        ("train", "--timesteps 1e6.5", "--timesteps cannot be '1e6.5': give a whole number."),
        ("train", "--hidden-dim 3.5", "--hidden-dim cannot be '3.5': give a whole number."),
        ("train", "--hidden-dim=-3", "--hidden-dim cannot be '-3': it must be above 0."),
        ("train", "--dropout much", "--dropout cannot be 'much': give a number."),
        ("train", "--delisting-return -1e0", "--delisting-return cannot be '-1e0': it must be above -1."),
        (
            "train",
            "--start 2018-13-01",
            "--start cannot be '2018-13-01': there is no such day (month must be in 1..12).",
        ),
        (
            "train",
            "--train-until 20181231",
            "--train-until cannot be '20181231': a date has a year, a month and a day; write it as 2018-12-31.",
        ),
        ("train", "--best-by profit", "--best-by cannot be 'profit': give 'growth' or 'score'."),
        ("train", "--device", "--device needs a value; write --device TEXT."),
        ("train", "--episodes --quiet", "--episodes needs a value; write --episodes INT."),
        ("train", "--quiet --best-by", "--best-by needs a value; write --best-by {growth,score}."),
        ("train", "--config", "--config needs a value; write --config PATH."),
        ("train", "--config --resume", "--config needs a value; write --config PATH."),
        ("train", "--checkpoint", "--checkpoint needs a value; write --checkpoint PATH."),
        ("train", "--episodes 1 2", "--episodes takes one value, and '2' is left over; remove it, or put the whole"),
        ("train", "--cash-rate 2%", "--cash-rate cannot be '2%': write 2 % as 0.02."),
        ("costs", "--on", "--on needs a value; write --on TEXT."),
        ("build-cache", "--on-findings ignore", "--on-findings cannot be 'ignore': give 'repair' or 'strict'."),
        ("learnability", "--seeds x", "--seeds cannot be 'x': give a whole number."),
        ("learnability", "--seeds 0", "--seeds cannot be '0': it must be above 0."),
        ("learnability", "--timesteps 1e3.5", "--timesteps cannot be '1e3.5': give a whole number."),
        ("learnability", "--markets", "--markets needs a value; write --markets TEXT [TEXT ...]."),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(refused, verb, words, said):
    assert refused(verb, *words.split()).startswith(f"tactician {verb}: {said}")


@pytest.mark.parametrize(("wrote", "means"), [("1e6", 10**6), ("1_000_000", 10**6), ("2.5e5", 250_000), ("600", 600)])
def test_counts_may_be_written_with_an_exponent(tiny, wrote, means):
    _, config = parse(TrainArguments, "train", ["--config", str(tiny), "--timesteps", wrote, f"--save-every={wrote}"])
    assert config.timesteps == means and config.save_every == means


def test_flags_go_before_the_file_and_the_rest_is_the_files(tiny):
    words = ["--config", str(tiny), "--hidden_dim", "32", "--amp", "--delisting-return", "-0.3", "-v", "--resume"]
    arguments, config = parse(TrainArguments, "train", words)
    assert (config.hidden_dim, config.amp, config.delisting_return) == (32, True, -0.3)
    assert (config.n_envs, config.timesteps, config.high_vram) == (8, 600, False)
    assert (arguments.verbose, arguments.resume, arguments.quiet, arguments.config_file) == (True, True, False, tiny)


def test_the_last_of_two_values_counts(tiny):
    words = ["--config", "nowhere.yaml", f"--config={tiny}", "--n-envs", "4", "--n-envs", "16"]
    arguments, config = parse(TrainArguments, "train", words)
    assert (arguments.config_file, config.n_envs, config.hidden_dim) == (tiny, 16, 16)


def test_a_switch_of_the_file_can_be_confirmed_and_taken_back(tiny, tmp_path):
    path = tmp_path / "amp.yaml"
    path.write_text(tiny.read_text() + "amp: true\n")
    for words, amp in (([], True), (["--amp"], True), (["--no-amp"], False)):
        assert parse(TrainArguments, "train", ["--config", str(path), *words])[1].amp is amp


def test_a_value_of_the_file_can_be_taken_back(tiny):
    assert parse(TrainArguments, "train", ["--config", str(tiny), "--n-envs", "None"])[1].n_envs is None


def test_durations_of_the_command_line_replace_those_of_the_file(tiny):
    config = parse(TrainArguments, "train", ["--config", str(tiny), "--episodes", "3"])[1]
    assert (config.timesteps, config.episodes) == (None, 3)


@pytest.mark.parametrize("verb", ["train", "build-cache", "costs"])
def test_the_help_shows_the_verbs_flags_first_and_the_keys_by_section(verb, capsys):
    shown = help_of(verb, capsys)
    _, *parts = re.split(r"^(?:╭─)? ((?:[a-z]+ )?options) ", shown, flags=re.M)
    assert parts[::2] == ["options", *(f"{section} options" for section in sections())]
    boxes = dict(zip(parts[::2], parts[1::2], strict=True))
    assert "--config" in boxes["options"] and "--hidden-dim" in boxes["policy options"]
    for section, keys in sections().items():
        flags = {f"--{key.replace('_', '-')}" for key, field in keys.items() if FileOnly not in field.metadata}
        assert flags <= set(re.findall(r"--[\w-]+", boxes[f"{section} options"]))


def test_the_help_shows_choices_kinds_and_the_files_values(tiny, capsys):
    shown = " ".join(help_of("train", capsys, "--config", str(tiny)).replace("│", " ").split())
    assert "--best-by {growth,score}" in shown and "--start YYYY-MM-DD" in shown and "--cash-rate FLOAT|PATH" in shown
    assert "--hidden-dim INT Width of the encoder and of the GRU. (default: 16)" in shown
    assert "\0" not in shown and "(default: None)" not in shown


def test_the_help_needs_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "--hidden-dim INT" in help_of("train", capsys, "--config", "nowhere.yaml")


def test_keys_that_only_studies_need_are_no_flags_and_say_where_they_are_set(tiny, refused, capsys):
    hidden = {name for name, field in Config.model_fields.items() if FileOnly in field.metadata}
    assert {"hold_prior", "sharpening", "anneal_steps", "impact_linear"} <= hidden
    shown = help_of("train", capsys)
    for key in hidden:
        flag = f"--{key.replace('_', '-')}"
        assert f"{flag} " not in shown
        said = refused("train", "--config", str(tiny), flag, "1")
        assert said.endswith(f"{flag} is no flag of tactician train; set the key '{key}' in the YAML file.")


SPECIFIED = """hidden-dim n-gru-layers dropout critic-epochs high-vram low-vram resume expanded cache-path n-envs batch-size
max-vram-gpu0 max-vram-gpu1 timesteps episodes iterations verbose quiet amp multi-gpu gae-lambda checkpoint config n-steps"""


@pytest.mark.parametrize("flag", SPECIFIED.split())
def test_every_flag_of_the_specification_is_one(flag, capsys):
    assert f"--{flag}" in re.findall(r"--[\w-]+", help_of("train", capsys))


def test_every_verb_has_help(capsys):
    for verb in VERBS:
        assert f"usage: tactician {verb}" in help_of(verb, capsys)


@dataclasses.dataclass(frozen=True)
class Named:
    """A verb with a word that is no flag."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")] = "none"
    """Which."""


def test_a_verb_may_take_a_word_without_a_flag():
    assert flags_of(Named, "show", []).name == "none"
    assert flags_of(Named, "show", ["this"]).name == "this"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("embedded_sp500 extra", "NAME takes one value, and 'extra' is left over; remove it, or put the whole value"),
        ("embedded_sp500 --name", "--name is no flag of tactician config; tactician config --help lists them."),
    ],
)
def test_a_word_without_a_flag_is_called_as_in_the_help(refused, words, said):
    assert refused("config", *words.split()).startswith(f"tactician config: {said}")


def test_an_empty_name_is_no_name(refused):
    assert refused("config", "").startswith("tactician config: NAME cannot be empty; write NAME (a shell variable")


def test_the_spellings_of_a_verb_are_those_that_it_takes(tiny):
    assert spellings(Named) == {"-h", "--help"}
    of_study = {
        "markets",
        "variants",
        "seeds",
        "first-seed",
        "rows",
        "sweep",
        "timesteps",
        "out",
        "processes",
        "json",
        "help",
        "engine",
        "address",
    }
    assert spellings(LearnabilityArguments) == {"-h", *(f"--{name}" for name in of_study)}
    of_train = spellings(TrainArguments)
    assert {"--config", "--json", "-v", "--hidden-dim", "--amp", "--no-amp"} <= of_train
    assert not {"--no-verbose", "--hold-prior", "--config-file", "--as-json"} & of_train
    switches = [flag for flag in sorted(of_train) if flag.startswith("--no-") or flag == "-v"]
    assert len(switches) > 4 and parse(TrainArguments, "train", ["--config", str(tiny), *switches])
