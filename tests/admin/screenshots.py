"""The pictures of the dashboard in the documentation, taken from a real site: `python -m tests.admin.screenshots`.

Runs a site on a Redis of its own with visitors and a few invalidations. The browser's clock is moved on, so that five
minutes of polls pass in less than one.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.admin.browser import Person, chromium
from tests.processes import ROOT
from tests.servers import Gunicorn, Server, find_binary

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_MOST_BYTES = 200_000


def take(folder: Path) -> list[Path]:
    """Take all pictures, and return where they are."""
    with Server(find_binary("any")) as server, _site(server) as web, chromium() as browser:
        person = Person(browser, web.url, viewport={"width": 1280, "height": 1180}, reduced_motion="reduce")
        person.page.clock.install()
        person.open().sign_in()
        person.page.locator("#board").wait_for()
        _live(person, polls=140)
        person.page.evaluate("() => void fetch('/weather/atlantis?slow=900')")
        _poll_until(person, "#loads li")
        found = [_shot(person, folder / "dashboard-light.png")]
        person.page.set_viewport_size({"width": 390, "height": 844})
        person.page.emulate_media(color_scheme="dark")
        found.append(_shot(person, folder / "dashboard-phone-dark.png"))
        person.page.set_viewport_size({"width": 1280, "height": 860})
        person.page.emulate_media(color_scheme="light")
        server.stop()
        _live(person, polls=6)
        person.page.locator("#notes .bad").wait_for()
        person.page.get_by_role("button", name="Invalidate weather…").click()
        person.page.get_by_role("button", name="Invalidate weather", exact=True).click()
        person.page.get_by_text("1 pending").wait_for()
        found.append(_shot(person, folder / "dashboard-redis-down.png"))
        person.close()
        return [*found, _queues(browser, folder / "dashboard-queues.png")]


def _queues(browser: Browser, path: Path) -> Path:
    """The cards of an app with a queue of writes and warming tasks."""
    with Server(find_binary("any"), maxmemory="100mb", maxmemory_policy="volatile-lru") as server:
        env = {"RCACHE_URL": server.url}
        with Gunicorn("tests.admin.site:create_shop()", threads=8, env=env) as web:
            person = Person(browser, web.url, viewport={"width": 1280, "height": 1130}, reduced_motion="reduce")
            person.open().sign_in()
            for page in ("nowhere", *(f"page-{number}" for number in range(20))):
                person.visit(f"/view/{page}")
            for _ in range(3):
                person.visit("/apply?attempts=3")
            person.visit("/view/nowhere")
            for _ in range(2):
                person.visit("/apply?attempts=3")
            for number in range(6):
                person.visit(f"/view/page-{number}")
            person.page.locator("#dead li").wait_for()
            person.page.locator("#held li").wait_for()
            person.page.locator("#warming [data-state=bad]").wait_for()
            person.page.locator(".halves").screenshot(path=path, animations="disabled")
            person.close()
    return path


def _site(server: Server) -> Gunicorn:
    env = {"RCACHE_URL": server.url, "SITE_LOAD": "0.012"}
    return Gunicorn("tests.admin.site:create_app()", threads=16, env=env)


def _live(person: Person, polls: int) -> None:
    """Let visitors come while the page polls."""
    chance = random.Random(7)
    for number in range(polls):
        for _ in range(chance.randint(2, 4) + (4 if 60 < number < 90 else 0)):
            person.visit(f"/flights/{chance.choice(('AA', 'BA', 'LH'))}{min(chance.randint(1, 14) for _ in range(2))}")
        for _ in range(chance.randint(0, 2)):
            person.visit(f"/weather/{chance.choice(('rome', 'oslo', 'lima', 'york'))}?slow={chance.randint(0, 2)}")
        if number in (35, 75, 110):
            scope = {35: "weather", 75: "flights", 110: "flights"}[number]
            person.page.get_by_role("button", name=f"Invalidate {scope}…").click()
            person.page.get_by_role("button", name=f"Invalidate {scope}", exact=True).click()
            person.page.locator("#confirm").wait_for(state="hidden")
        with person.page.expect_response("**/overview"):
            person.page.clock.run_for(2_000)


def _poll_until(person: Person, selector: str) -> None:
    """Let the page poll until it shows something; loads are told of by the site's heartbeat, once a second."""
    for _ in range(20):
        with person.page.expect_response("**/overview"):
            person.page.clock.run_for(2_000)
        person.page.wait_for_timeout(300)
        if person.page.locator(selector).count():
            return
    raise SystemExit(f"{selector} did not show")


def _shot(person: Person, path: Path) -> Path:
    # What was said about an invalidation has been read by now.
    person.page.mouse.move(0, 0)
    person.page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    person.page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    if size >= _MOST_BYTES:
        raise SystemExit(f"{path} has {size} bytes: too large for the documentation")
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    target.mkdir(parents=True, exist_ok=True)
    for picture in take(target):
        print(f"{picture} {picture.stat().st_size} bytes")
