"""A real browser that looks at a page and notes what a reader must never meet."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
WIDTHS = (1280, 380)


@dataclass
class Reader:
    """Opens pages; keeps complaints of the console and addresses that were asked for."""

    browser: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, path: Path, width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        """A page whose charts are drawn."""
        page = self.look(path, width, scheme, **options)
        page.wait_for_selector("html.drawn", timeout=60_000)
        return page

    def look(self, path: Path, width: int = 1280, scheme: str = "light", **options: Any) -> Any:
        """A page as it is loaded."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        page = context.new_page()
        page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())
        return page


def until(page: Any, condition: str) -> None:
    """Wait for a condition of the page, which playwright's own way would have to evaluate inside, against its policy."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium; the test is skipped, and says so, where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
