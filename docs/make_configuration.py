"""Write docs/configuration.md from the configuration object, so that the two cannot disagree."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic.fields import FieldInfo

from tactician.config import FileOnly, sections
from tactician.trading.account import AccountFile

TARGET = Path(__file__).parent / "configuration.md"

_HEAD = """# Configuration

One object is the YAML file, the command line's flags and their help: `tactician/config.py`, from which this page is made
(`make docs`). A key `hidden_dim` is the flag `--hidden-dim`; a flag goes before the file, and `None` takes back what the file
says where the default is `None`. Keys marked *file only* have no flag. Unknown keys and impossible values are refused in one
sentence.
"""

_ACCOUNT = """
# The account file

`tactician trade` reads one YAML file per account ([Trading](trading.md)). Unknown keys are refused. Shares are decimals: 0.1 is
10 %. A limit that a plan passes refuses the whole plan.

| key | default | meaning |
|---|---|---|
{rows}
"""

_TABLE = """
## {section}

| key | default | meaning |
|---|---|---|
{rows}
"""


def page() -> str:
    """The page's text."""
    tables = [_TABLE.format(section=name.capitalize(), rows=_rows(keys)) for name, keys in sections().items()]
    return _HEAD + "".join(tables) + _ACCOUNT.format(rows=_rows(AccountFile.model_fields))


def _rows(keys: Mapping[str, FieldInfo]) -> str:
    return "\n".join(_row(key, field) for key, field in keys.items())


def _row(key: str, field: FieldInfo) -> str:
    default = "*required*" if field.is_required() else f"`{field.default}`"
    flag = " *(file only)*" if FileOnly in field.metadata else ""
    text = re.sub(r"\s+", " ", field.description or "").replace("|", "\\|")
    return f"| `{key}`{flag} | {default} | {text} |"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"Wrote {TARGET}")
