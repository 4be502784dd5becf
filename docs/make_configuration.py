"""Write docs/configuration.md from the configuration object, so that the two cannot disagree."""

import re
from pathlib import Path

from pydantic_core import PydanticUndefined

from tactician.config import Config

TARGET = Path(__file__).parent / "configuration.md"

_HEAD = """# Configuration

One object is the YAML file, the command line's flags and their help: `tactician/config.py`, from which this page is made
(`make docs`). A key `hidden_dim` is the flag `--hidden-dim`; a flag goes before the file. Keys marked *file only* have no flag.
Unknown keys and impossible values are refused in one sentence.

| key | default | meaning |
|---|---|---|
"""


def page() -> str:
    """The page's text."""
    rows = []
    for name, field in Config.model_fields.items():
        default = "*required*" if field.default is PydanticUndefined else f"`{field.default}`"
        flag = " *(file only)*" if any("Suppress" in repr(mark) for mark in field.metadata) else ""
        text = re.sub(r"\s+", " ", field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}`{flag} | {default} | {text} |")
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"Wrote {TARGET}")
