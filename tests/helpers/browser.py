"""Pages in a real browser: Debian's Chromium, driven by playwright; absent where either is not at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("H2SIM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
AXE = os.environ.get("H2SIM_AXE", "")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")


def why_not() -> str:
    """Why there is no browser; empty where there is one."""
    if not CHROMIUM:
        return "no Chromium (H2SIM_CHROMIUM names it)"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "no playwright"
    return ""


@dataclass
class Opened:
    """A page that a browser shows, and all that it said and asked for."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """CSS pixels by which the document is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def violations(self) -> list[str]:
        """What axe-core finds wrong by the rules of WCAG 2.2 A and AA and its best practices."""
        self.page.evaluate(Path(AXE).read_text(encoding="utf-8"))
        found = self.page.evaluate(f"axe.run({{runOnly: {list(RULES)}}})")
        return [
            f"{v['id']}: {n['html'][:120]}: {n['failureSummary'][:200]}"
            for v in found["violations"]
            for n in v["nodes"][:3]
        ]


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(
    chromium: Any,
    path: Path,
    width: int = 1400,
    scheme: str = "light",
    *,
    scripts: bool = True,
    axe: bool = False,
    key: str = "",
) -> Iterator[Opened]:
    """A file as a reader sees it, without any network. axe: the checker may be put into it, past its own policy."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, java_script_enabled=scripts,
        bypass_csp=axe, reduced_motion="reduce",
    )  # fmt: skip
    page = context.new_page()
    found = Opened(page)
    page.on("console", lambda message: found.messages.append(message.text))
    page.on("pageerror", lambda error: found.messages.append(str(error)))
    page.on("request", lambda request: found.requests.append(request.url))
    page.goto(path.resolve().as_uri() + (f"#{key}" if key else ""))
    page.wait_for_timeout(250)
    yield found
    context.close()
