"""Write docs/configuration.md from the configuration object, so that the two cannot disagree."""

import re
from pathlib import Path

from pydantic.fields import FieldInfo

from tactician.config import FileOnly, sections

TARGET = Path(__file__).parent / "configuration.md"

_HEAD = """# Configuration

One object is the YAML file, the command line's flags and their help: `tactician/config.py`, from which this page is made
(`make docs`). A key `hidden_dim` is the flag `--hidden-dim`; a flag goes before the file, and `None` takes back what the file
says where the default is `None`. Keys marked *file only* have no flag. Unknown keys and impossible values are refused in one
sentence.
"""

_TABLE = """
## {section}

| key | default | meaning |
|---|---|---|
{rows}
"""


def page() -> str:
    """The page's text."""
    return _HEAD + "".join(
        _TABLE.format(section=name.capitalize(), rows="\n".join(_row(key, field) for key, field in keys.items()))
        for name, keys in sections().items()
    )


def _row(key: str, field: FieldInfo) -> str:
    default = "*required*" if field.is_required() else f"`{field.default}`"
    flag = " *(file only)*" if FileOnly in field.metadata else ""
    text = re.sub(r"\s+", " ", field.description or "").replace("|", "\\|")
    return f"| `{key}`{flag} | {default} | {text} |"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"Wrote {TARGET}")
