"""A real Chromium, driven by playwright, and the dashboard as a person at it would use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.admin.tokens import token

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["PATIENCE", "NoBrowserError", "Person", "chromium"]

#: Milliseconds to wait for anything on the page: a slow machine is no failure.
PATIENCE: Final = 15_000

_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


class NoBrowserError(LookupError):
    """There is no Chromium on this machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the machine's Chromium without a window.

    Raises:
        NoBrowserError: there is none on the path.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise NoBrowserError("no chromium on the path: install it to test the dashboard")
    # Imported here: an application under test imports what is beside it, and needs no browser.
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS), timeout=60_000)
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody at the dashboard of one site, in a browser context of their own.

    Args:
        browser: the browser.
        url: where the site is.
        options: of the context: `viewport`, `color_scheme` …
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.context.set_default_timeout(PATIENCE)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def open(self) -> Person:
        """Open the dashboard."""
        self.page.goto(f"{self.url}/api/cache/dashboard")
        return self

    def sign_in(self, text: str | None = None) -> Person:
        """Paste a token, a good one if none is given, and press the button."""
        self.page.get_by_label("Token").fill(token() if text is None else text)
        self.page.get_by_role("button", name="Sign in").click()
        return self

    def visit(self, path: str) -> str:
        """Ask the site for a page of its own, and say what the cache made of it."""
        response = self.context.request.get(self.url + path)
        return response.headers.get("x-cache", "")

    def close(self) -> None:
        """Close the window."""
        self.context.close()
