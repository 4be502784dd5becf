"""The configurations that come with the package, and what ``--config`` means: a file, or one of them by name."""

import os
from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The packaged configurations."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def packaged(given: str | Path) -> Path | None:
    """The packaged file that ``NAME``, ``NAME.yaml`` or ``configs/NAME.yaml`` stands for; None if there is none."""
    path = Path(given)
    forms = (Path(path.stem), Path(f"{path.stem}.yaml"), Path("configs", f"{path.stem}.yaml"))
    return _FOLDER / f"{path.stem}.yaml" if path.stem in names() and path in forms else None


def find(given: str | Path) -> Path:
    """The file that is meant: one that exists goes before a packaged one; else the path as it was given."""
    is_file = os.path.exists(given) and not os.path.isdir(given)  # Path's raise for some names
    return Path(given) if is_file else packaged(given) or Path(given)


def shortest(given: str | Path) -> str:
    """The name of a packaged configuration, any other path as it was given: what a command needs to name it."""
    found = find(given)
    return found.stem if found.parent == _FOLDER else str(given)
