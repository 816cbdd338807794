"""The dashboard: what the page's files promise, and the page itself in a real Chromium, on real sites."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask
from werkzeug.serving import make_server

from tests.admin.browser import PATIENCE, NoBrowserError, Person, chromium
from tests.admin.kit import make_admin
from tests.admin.site import create_app
from tests.admin.tokens import token
from tests.processes import wait_until
from tests.servers import Gunicorn, Server, find_binary
from tests.views.kit import manager

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

FILES = {file.name: file.read_text() for file in (resources.files("flask_rcache.admin") / "static").iterdir()}
SHELL = FILES["dashboard.html"]
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
#: The SHA-256 of the files that others wrote: dist/uPlot.iife.min.js, dist/uPlot.min.css and LICENSE of the npm package
#: uplot 1.6.32.
VENDORED = {
    "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot-1.6.32.LICENSE.txt": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}

# The files


@pytest.fixture
def client() -> Iterator[Any]:
    admin = make_admin(prefix="/ops/kept")
    yield admin.client
    admin.cache.close()


def test_page__needs_no_token_and_holds_no_data(client) -> None:
    """The shell and its files are served to anybody, under the configured prefix, with HEAD too."""
    for path in ("", *(f"/{name}" for name in FILES if name != "dashboard.html")):
        answer = client.get(f"/ops/kept/dashboard{path}")
        assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (200, False), path
        assert client.head(f"/ops/kept/dashboard{path}").status_code == 200
    assert client.get("/ops/kept/overview").status_code == 401


def test_page__security_headers(client) -> None:
    """Nothing inline, nothing from elsewhere, in nobody's frame; scripts cannot turn text into markup."""
    for path in ("", "/main.js", "/dashboard.css", "/icon.svg"):
        headers = client.get(f"/ops/kept/dashboard{path}").headers
        policy = dict(each.strip().split(" ", 1) for each in headers["Content-Security-Policy"].split(";"))
        assert policy == {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Frame-Options"] == "DENY"
        assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("", "text/html; charset=utf-8"),
        ("/main.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/uplot-1.6.32.LICENSE.txt", "text/plain; charset=utf-8"),
    ],
)
def test_page__is_validated_by_its_etag(client, path, content_type) -> None:
    """A browser keeps a file, asks each time whether it is still right, and gets it whole only when it is not."""
    first = client.get(f"/ops/kept/dashboard{path}")
    assert (first.content_type, first.headers["Cache-Control"]) == (content_type, "no-cache")
    again = client.get(f"/ops/kept/dashboard{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client.get(f"/ops/kept/dashboard{path}", headers={"If-None-Match": '"another"'})
    assert (other.status_code, other.data) == (200, first.data)


@pytest.mark.parametrize(
    "path",
    ["/none.js", "/dashboard.html", "/../page.py", "/%2e%2e%2fpage.py", "/..%5cpage.py", "/__init__.py", "/a/main.js"],
)
def test_page__nothing_else_is_served(client, path) -> None:
    """Only the files of the page can be asked for, whatever the path says."""
    answer = client.get(f"/ops/kept/dashboard{path}")
    assert answer.status_code in (401, 404)  # what is no file of the page is not told to strangers
    assert b"import" not in answer.data


def test_page__a_slash_at_the_end_leads_to_the_page(client) -> None:
    """The URLs of the page are relative, so one place must hold it; the way there is relative as well."""
    answer = client.get("/ops/kept/dashboard/")
    assert (answer.status_code, answer.headers["Location"]) == (308, "../dashboard")


def test_page__nothing_inline_and_nothing_from_elsewhere() -> None:
    """The shell has no script, style or handler of its own, and names only files that are there."""
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", SHELL)
    named = set(re.findall(r'(?:src|href)="(?!#)([^"]+)"', SHELL))
    assert named
    assert {name.removeprefix("dashboard/") for name in named} <= set(FILES)
    assert all(name.startswith("dashboard/") for name in named)
    for name, text in FILES.items():
        hosts = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text)) - {"http://www.w3.org/2000/svg"}
        # A library says in a comment where it is from.
        assert hosts == ({"https://github.com/leeoniya/uPlot"} if name == "uplot-1.6.32.min.js" else set()), name
    for name, text in SCRIPTS.items():
        assert set(re.findall(r'from "\./([^"]+)"', text)) <= set(SCRIPTS), name


def test_page__what_others_wrote_is_as_they_published_it() -> None:
    """The chart's library is not changed by hand, is what the page loads, and has its licence beside it."""
    folder = resources.files("flask_rcache.admin") / "static"
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES if "uplot" in name}
    assert found == VENDORED
    assert set(re.findall(r'"dashboard/(uplot[^"]+)"', SHELL)) == {name for name in VENDORED if ".min." in name}
    assert "Permission is hereby granted" in FILES["uplot-1.6.32.LICENSE.txt"]


def test_page__scripts_use_no_sink_and_keep_no_token_elsewhere() -> None:
    """No markup is made from text, and the token's one place is `api.js`."""
    sinks = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|localStorage|document\.cookie"
    )
    for name, text in SCRIPTS.items():
        assert not re.search(sinks, text), name
        assert ("sessionStorage." in text) == (name == "api.js"), name
        assert len(text.splitlines()) <= 300, name


def test_page__every_control_has_a_name() -> None:
    """Inputs have labels, and what a script looks up by its id is there."""
    ids = set(re.findall(r'\sid="([^"]+)"', SHELL))
    labelled = set(re.findall(r'<label for="([^"]+)"', SHELL))
    assert set(re.findall(r'<(?:input|select)[^>]*\sid="([^"]+)"', SHELL)) == labelled
    for text in SCRIPTS.values():
        assert set(re.findall(r'\$\("([^"]+)"\)', text)) <= ids
    for names in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', SHELL):
        assert set(names.split()) <= ids


def test_page__colours_are_readable() -> None:
    """Text on its ground is AA (4.5:1) in the light and in the dark, for every pair that the page uses."""
    light, dark = re.findall(r":root \{(.*?)\}", FILES["dashboard.css"], re.DOTALL)
    pairs = [
        *[(ink, ground) for ink in ("ink", "soft") for ground in ("ground", "card", "raised", "bad-wash", "warn-wash")],
        *[("accent", ground) for ground in ("card", "raised")],
        *[("bad", ground) for ground in ("card", "raised", "bad-wash")],
        *[("warn", ground) for ground in ("card", "raised", "warn-wash")],
        *[("on-accent", "accent"), ("card", "bad"), ("ink", "accent-wash"), ("soft", "accent-wash")],
    ]
    for colours in (dict(re.findall(r"--([\w-]+): (#\w{6})", each)) for each in (light, dark)):
        poor = {pair: _contrast(*(colours[name] for name in pair)) for pair in pairs}
        assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}


def _contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours. Source: WCAG 2.1, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


# In the browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for this file; ended with it, since its event loop would be in the way of others."""
    try:
        with chromium() as found:
            yield found
    except NoBrowserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def redis_site(browser) -> Iterator[str]:
    """A site on a Redis under gunicorn, shared by the tests that stop neither."""
    with Server(find_binary("any")) as server, _gunicorn(server) as web:
        yield web.url


def _gunicorn(server: Server) -> Gunicorn:
    return Gunicorn("tests.admin.site:create_app()", threads=16, env={"RCACHE_URL": server.url})


@contextmanager
def _serving(flask: Flask) -> Iterator[str]:
    """An application in threads of this process."""
    server = make_server("127.0.0.1", 0, flask, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        manager(flask).close()


@pytest.fixture
def memory_site() -> Iterator[str]:
    """A site of its own, without a Redis, in threads of this process."""
    with _serving(create_app()) as url:
        yield url


@pytest.fixture
def person(browser) -> Iterator[Callable[..., Person]]:
    """`person(url, clock=False, **context)`: somebody at the dashboard; at the end, the page raised no error."""
    people: list[Person] = []

    def meet(url: str, *, clock: bool = False, **options: Any) -> Person:
        people.append(Person(browser, url, **options))
        if clock:
            people[-1].page.clock.install()
        return people[-1].open()

    yield meet
    for each in people:
        each.close()
        # The browser itself writes a line for each answer that is an error.
        assert [text for text in each.complaints if not text.startswith("Failed to load resource")] == []
        assert not [address for address in each.addresses if "eyJ" in address]


def row(person: Person, type_name: str) -> Locator:
    return person.page.locator(f'#types tr[data-type="{type_name}"]')


def expect(locator: Any) -> Any:
    """As playwright's, imported when a browser is there."""
    from playwright.sync_api import expect as playwright_expect

    return playwright_expect(locator)


def test_dashboard__sign_in_and_out(person, redis_site) -> None:
    """A wrong token leads nowhere, a good one to the figures; it lives in this tab until signing out."""
    someone = person(redis_site)
    page = someone.page
    expect(page.get_by_role("heading", name="Cache dashboard")).to_be_visible()
    expect(page.get_by_label("Token")).to_be_focused()
    someone.sign_in(token("w" * 32))
    expect(page.get_by_role("alert")).to_contain_text("This token was not accepted")
    expect(page.locator("#board")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    good = token()
    someone.sign_in(f"  Bearer {good}\n")
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    expect(page.get_by_role("heading", name="Cache types")).to_be_visible()
    assert page.evaluate("Object.values(sessionStorage)") == [good]
    assert page.evaluate("[localStorage.length, document.cookie, document.querySelector('#token').value]") == [
        0,
        "",
        "",
    ]
    page.reload()
    expect(page.locator("#board")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.locator("#board")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_dashboard__says_why_a_token_does_not_do(person, redis_site) -> None:
    """Each refusal at the door has words of its own, and what was typed can be corrected."""
    someone = person(redis_site)
    for text, complaint in (
        ("", "Paste a token first"),
        ("no tokén at all", "That is not a token"),
        (token(role="reader"), "does not have the role"),
        (token(exp=1), "This token was not accepted"),
    ):
        someone.sign_in(text)
        expect(someone.page.get_by_role("alert")).to_contain_text(complaint)
        expect(someone.page.get_by_role("button", name="Sign in")).to_be_enabled()
        expect(someone.page.locator("#board")).to_be_hidden()


def test_dashboard__a_token_that_ends_leads_back_to_the_door(person, redis_site) -> None:
    """When the API takes the token no longer, the figures go, and the reason is given."""
    someone = person(redis_site).sign_in()
    expect(someone.page.locator("#pulse")).to_have_attribute("data-state", "live")
    ended = token(exp=1)
    someone.page.evaluate("token => sessionStorage.setItem('rcache.token', token)", ended)
    expect(someone.page.get_by_role("alert")).to_contain_text("You have been signed out")
    expect(someone.page.locator("#board")).to_be_hidden()
    assert someone.page.evaluate("sessionStorage.length") == 0


def test_dashboard__an_app_s_own_guard_needs_no_token(person) -> None:
    """Whom the app knows by other means sees the figures at once."""
    admin = make_admin(RCACHE_ADMIN_JWT_KEY=None, RCACHE_ADMIN_GUARD=lambda request: "ann")
    with _serving(admin.flask) as url:
        someone = person(url)
        expect(someone.page.locator("#board")).to_be_visible()
        expect(someone.page.locator("#pulse")).to_have_attribute("data-state", "live")


def test_dashboard__a_hit_appears(person, memory_site) -> None:
    """An empty cache says so; requests show within a poll, in the tiles, the table and the chart."""
    someone = person(memory_site).sign_in()
    page = someone.page
    expect(page.get_by_text("No requests yet", exact=True)).to_be_visible()
    expect(page.get_by_text("There are no entries in the cache.")).to_be_visible()
    expect(page.locator("#notes")).to_contain_text(re.compile(r"Figures of process \d+ only"))
    assert _painted(someone, set()) == set()
    assert [someone.visit("/flights/AA1") for _ in range(4)] == ["MISS", "HIT", "HIT", "HIT"]
    expect(row(someone, "flights").locator("td").first).to_have_text("4")
    expect(row(someone, "flights")).to_contain_text("75.0 %")
    expect(page.locator("#tile-rate-sub")).to_contain_text("75.0 %")
    expect(page.locator("#tile-entries")).to_have_text("1")
    expect(page.get_by_text("No requests yet", exact=True)).to_be_hidden()
    assert _painted(someone, {"accent", "hits", "misses"}) == {"accent", "hits", "misses"}
    expect(page.locator("#costliest li")).to_have_count(1)
    # The list of keys was empty, so it is looked at again.
    expect(page.locator("#keys tr")).to_have_count(1)


def _painted(someone: Person, wanted: set[str]) -> set[str]:
    """The series whose colour the chart shows, as soon as they are those that are wanted, or when patience ends."""
    script = """async ([wanted, patience]) => {
      const host = document.querySelector("#chart");
      const style = getComputedStyle(host);
      const hex = (name) => style.getPropertyValue(`--${name}`).match(/[0-9a-f]{2}/gi);
      const parts = (name) => hex(name).map((part) => parseInt(part, 16));
      const shows = (canvas, [red, green, blue]) => {
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let at = 0; at < data.length; at += 4) {
          const far = Math.abs(data[at] - red) + Math.abs(data[at + 1] - green) + Math.abs(data[at + 2] - blue);
          if (data[at + 3] > 250 && far < 12) return true;
        }
        return false;
      };
      const end = performance.now() + patience;
      for (;;) {
        const canvases = [...host.querySelectorAll("canvas")];
        const names = ["accent", "hits", "misses", "stale"];
        const found = names.filter((name) => canvases.some((canvas) => shows(canvas, parts(name))));
        if (String(found) === String(wanted) || performance.now() > end) return found;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }"""
    return set(someone.page.evaluate(script, [sorted(wanted), PATIENCE]))


@pytest.mark.parametrize("ratio", [1, 2])
def test_dashboard__chart_draws_what_it_is_given(person, memory_site, ratio) -> None:
    """A line and three areas, one upon the other, on any screen and in both schemes; a gap stays empty."""
    someone = person(memory_site, device_scale_factor=ratio)
    page = someone.page
    page.evaluate(_TRIAL)
    drawn = {
        "line": "accent",
        "above": "",
        "hits": "hits",
        "stale": "stale",
        "misses": "misses",
        "gap": "",
        "line's gap": "",
    }
    assert page.evaluate(_SPOTS) == {"size": [600 * ratio, 260 * ratio], "drawn": drawn}
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(_SPOTS) == {"size": [600 * ratio, 260 * ratio], "drawn": drawn}
    page.evaluate("document.querySelector('#trial').style.width = '320px'")
    assert page.evaluate(_SPOTS) == {"size": [320 * ratio, 260 * ratio], "drawn": drawn}


#: A chart of its own, 300 s long: 6 hits, 2 stale answers and 2 misses a second, and one point that is a gap.
_TRIAL = """async () => {
  const { Chart } = await import(new URL("dashboard/chart.js", document.baseURI));
  const host = Object.assign(document.createElement("div"), { id: "trial", className: "chart", tabIndex: 0 });
  const readout = Object.assign(document.createElement("p"), { id: "trial-readout" });
  document.body.prepend(host, readout);
  Object.assign(host.style, { width: "600px", height: "260px" });
  const rates = { hits: 6, stale: 2, misses: 2, share: 60 };
  new Chart(host, readout).show(Array.from({ length: 151 }, (_, index) =>
    ({ at: 1000 + 2 * index, ...(index === 75 ? { gap: true } : { ...rates, share: index < 100 ? 60 : 90 }) })));
}"""

#: The size of both canvases together, and which colour is at a few places of them.
_SPOTS = """async () => {
  for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
  const [host, ratio] = [document.querySelector("#trial"), devicePixelRatio];
  const [upper, lower] = host.querySelectorAll("canvas");
  const style = getComputedStyle(host);
  const series = ["accent", "hits", "stale", "misses"];
  const near = (pixel) => (name) => {
    const parts = style.getPropertyValue(`--${name}`).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    return parts.every((part, index) => Math.abs(part - pixel[index]) < 6);
  };
  const spot = (canvas, at, level) => {
    const { left, top, width, height } = canvas.parentElement.querySelector(".u-over").getBoundingClientRect();
    const place = canvas.getBoundingClientRect();
    const [x, y] = [left - place.left + (width * at) / 300, top - place.top + height * (1 - level)];
    const { data } = canvas.getContext("2d").getImageData(Math.round(x * ratio), Math.round(y * ratio), 1, 1);
    return data[3] < 128 ? "" : series.find(near(data)) ?? String(data);
  };
  return {
    size: [upper.width, upper.height + lower.height],
    drawn: {
      // The scale ends a little above 100 %.
      line: spot(upper, 80, 0.6 / 1.04), above: spot(upper, 80, 0.8), "line's gap": spot(upper, 150, 0.6 / 1.04),
      hits: spot(lower, 80, 0.3), stale: spot(lower, 80, 0.7), misses: spot(lower, 80, 0.9), gap: spot(lower, 150, 0.3),
    },
  };
}"""


def test_dashboard__chart_reads_the_point_that_is_chosen(person, memory_site) -> None:
    """By pointer and by arrow keys, in both panels; leaving it, the chart tells the newest again."""
    page = person(memory_site).page
    page.evaluate(_TRIAL)
    readout = page.locator("#trial-readout")
    cursors = page.locator("#trial .u-cursor-x:not(.u-off)")
    newest = "now: 10/s (6 hits, 2 stale, 2 misses), hit rate 90.0 %"
    expect(readout).to_have_text(newest)
    expect(cursors).to_have_count(0)
    box = page.locator("#trial .u-over").last.bounding_box()
    assert box is not None
    for part, text in ((0, "300 s ago: 10/s"), (0.501, "150 s ago: no reading"), (1, "0 s ago: 10/s")):
        page.mouse.move(box["x"] + part * (box["width"] - 1), box["y"] + 5)
        expect(readout).to_contain_text(text)
        expect(cursors).to_have_count(2)
        for cursor in cursors.all():
            place = cursor.bounding_box()
            assert place is not None
            assert abs(place["x"] - box["x"] - part * box["width"]) < 3
    page.mouse.move(0, 500)
    expect(readout).to_have_text(newest)
    expect(cursors).to_have_count(0)
    page.locator("#trial").focus()
    for key, text in (("ArrowLeft", "0 s"), ("ArrowLeft", "2 s"), ("ArrowLeft", "4 s"), ("ArrowRight", "2 s")):
        page.keyboard.press(key)
        expect(readout).to_contain_text(f"{text} ago: 10/s")
    expect(readout).to_have_attribute("aria-live", "polite")
    expect(cursors).to_have_count(2)
    page.locator("#trial").blur()
    expect(readout).to_have_text(newest)
    expect(readout).to_have_attribute("aria-live", "off")


def test_dashboard__chart_takes_forced_colours(person, memory_site) -> None:
    """Where the system forces its colours, the lines that the chart draws are in them too, from that moment on."""
    page = person(memory_site).page
    page.evaluate(_TRIAL)
    script = """async () => {
      for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
      const probe = document.body.appendChild(document.createElement("i"));
      const [lines] = document.querySelectorAll("#trial canvas");
      const { data } = lines.getContext("2d").getImageData(0, 0, lines.width, lines.height);
      const pixels = new Set();
      for (let at = 0; at < data.length; at += 4) {
        if (data[at + 3] === 255) pixels.add(data.slice(at, at + 3).join(", "));
      }
      probe.style.forcedColorAdjust = "none";
      return ["GrayText", "LinkText", getComputedStyle(document.body).getPropertyValue("--edge")].map((name) => {
        probe.style.color = name;
        return pixels.has(getComputedStyle(probe).color.match(/\\d+/g).slice(0, 3).join(", "));
      });
    }"""
    assert page.evaluate(script) == [False, False, True]
    page.emulate_media(forced_colors="active")
    assert page.evaluate(script) == [True, True, False]


def test_dashboard__chart_needs_nothing_that_the_policy_forbids(person, memory_site) -> None:
    """It styles its elements by script, which is allowed; what is not would be told, and would fail every test here."""
    someone = person(memory_site).sign_in()
    page = someone.page
    page.evaluate("document.addEventListener('securitypolicyviolation', () => (document.title += ' violated'))")
    someone.visit("/flights/AA1")
    _painted(someone, {"accent", "misses"})
    page.locator("#chart").hover()
    page.locator("#chart").press("ArrowLeft")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 500, "height": 700})
    assert _painted(someone, {"accent", "misses"}) == {"accent", "misses"}
    expect(page).to_have_title("Cache dashboard")
    assert [text for text in someone.complaints if "Content Security Policy" in text] == []
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.querySelector('#chart').setAttribute('style', 'color: red')")
    expect(page).to_have_title("Cache dashboard violated")
    assert "Content Security Policy" in someone.complaints.pop()


def test_dashboard__invalidate_a_type(person, redis_site) -> None:
    """The button asks first, Cancel does nothing, and the count that came back is said; focus returns."""
    someone = person(redis_site).sign_in()
    page = someone.page
    for place in ("rome", "oslo", "lima"):
        someone.visit(f"/weather/{place}")
    assert someone.visit("/weather/rome") == "HIT"
    expect(row(someone, "weather").locator('[data-label="Entries"]')).to_have_text("3")
    button = page.get_by_role("button", name="Invalidate weather…")
    button.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("About 3 entries")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(button).to_be_focused()
    assert not [address for address in someone.addresses if "/invalidate/" in address]
    button.click()
    page.get_by_role("button", name="Invalidate weather", exact=True).click()
    expect(page.locator("#results")).to_contain_text("weather: 3 entries invalidated.")
    expect(button).to_be_focused()
    assert someone.visit("/weather/rome") == "MISS"
    expect(page.locator("#recent li").first).to_contain_text("type weather")
    expect(page.locator("#recent li").first).to_contain_text("3 removed")


def test_dashboard__invalidate_tags_and_everything(person, redis_site) -> None:
    """Tags are named in the dialog, where a mistake is told; clearing takes what is left."""
    someone = person(redis_site).sign_in()
    page = someone.page
    for flight in ("BA1", "LH1"):
        someone.visit(f"/flights/{flight}")
    page.get_by_role("button", name="Invalidate tags…").click()
    page.get_by_role("button", name="Invalidate tags", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("Name at least one tag.")
    page.get_by_label("Tags, separated by commas").fill("airline:BA, airline:XX,")
    page.get_by_role("button", name="Invalidate tags", exact=True).click()
    expect(page.locator("#results")).to_contain_text("2 tags invalidated.")
    assert (someone.visit("/flights/BA1"), someone.visit("/flights/LH1")) == ("MISS", "HIT")
    page.get_by_role("button", name="Clear all…").click()
    page.get_by_role("button", name="Clear all", exact=True).click()
    expect(page.locator("#results")).to_contain_text("Everything:")
    assert someone.visit("/flights/LH1") == "MISS"


def test_dashboard__browse_keys(person, redis_site) -> None:
    """Entries are found by type and text, shown with all that is known, and what looks like markup stays text."""
    someone = person(redis_site)
    someone.visit("/odd")
    page = someone.sign_in().page
    page.get_by_label("Type", exact=True).select_option("search")
    page.get_by_label("Key contains, or a pattern").fill("b,c")
    page.get_by_label("Key contains, or a pattern").press("Enter")
    entry = page.get_by_role("button", name="cache:search:a/b,c=d")
    expect(page.locator("#keys tr")).to_have_count(1)
    expect(page.locator("#keys .tag").filter(has_text="bold")).to_have_text("<b>bold</b>")
    entry.click()
    details = page.get_by_role("dialog")
    expect(details.locator("dd")).to_contain_text(["search", "a value"])
    expect(details).to_contain_text("<b>bold</b>")
    expect(details.locator("dt").filter(has_text="Rows").locator("+ dd")).to_have_text("public.flights:7")
    assert page.locator("b").count() == 0
    details.get_by_role("button", name="Invalidate this entry…").click()
    page.get_by_role("button", name="Invalidate entry", exact=True).click()
    expect(page.locator("#results")).to_contain_text("The entry was removed.")
    expect(page.get_by_text("No live entry matches.")).to_be_visible()
    page.get_by_label("Key contains, or a pattern").fill("[")
    page.get_by_role("button", name="List keys").click()
    expect(page.locator("#keys-count")).not_to_have_text("Looking…")


def test_dashboard__invalidate_what_matches(person, redis_site) -> None:
    """What is listed can be invalidated as a whole, by the same pattern."""
    someone = person(redis_site)
    someone.visit("/odd")
    page = someone.sign_in().page
    expect(page.get_by_role("button", name="Invalidate matching…")).to_be_disabled()
    page.get_by_label("Key contains, or a pattern").fill("search:a*")
    page.get_by_role("button", name="List keys").click()
    expect(page.locator("#keys tr")).to_have_count(1)
    page.get_by_role("button", name="Invalidate matching…").click()
    expect(page.get_by_role("dialog")).to_contain_text("search:a*")
    page.get_by_role("button", name="Invalidate matching", exact=True).click()
    expect(page.locator("#results")).to_contain_text("1 entry removed.")
    expect(page.locator("#keys tr")).to_have_count(0)


@pytest.mark.chaos
def test_dashboard__redis_stopped_and_back(person, private_server) -> None:
    """While Redis is down the page says what that means, invalidations are journalled; then all is well again."""
    server = private_server()
    with _gunicorn(server) as web:
        someone = person(web.url)
        someone.visit("/weather/rome")
        page = someone.sign_in().page
        expect(page.locator("#keys tr")).to_have_count(1)
        server.stop()
        expect(page.locator("#notes")).to_contain_text("is unavailable")
        expect(page.locator("#notes")).to_contain_text("The app runs without it")
        expect(page.locator("#notes")).to_contain_text("Figures of process")
        expect(page.locator("#health")).to_contain_text("Breakeropen")
        expect(page.locator("#tile-entries")).to_have_text("–")
        page.get_by_role("button", name="Clear all…").click()
        page.get_by_role("button", name="Clear all", exact=True).click()
        expect(page.locator("#results")).to_contain_text("Journalled")
        expect(page.locator("#health")).to_contain_text("1 pending")
        page.get_by_role("button", name="List keys").click()
        expect(page.locator("#keys-count")).to_contain_text("cannot be listed until it is available again")
        server.start()
        expect(page.locator("#notes > *")).to_have_count(0)
        expect(page.locator("#health")).to_contain_text("Journalempty")
        expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


@pytest.mark.chaos
def test_dashboard__sentinels_and_a_failover(person, sentinels) -> None:
    """The master and the sentinels are listed; a failover, a sentinel that is away and a lost quorum are said."""
    trio = sentinels()
    with Gunicorn("tests.admin.site:create_app()", threads=8, env={"RCACHE_URL": trio.url}) as web:
        someone = person(web.url)
        someone.visit("/weather/rome")
        page = someone.sign_in().page
        expect(page.locator("#servers-title")).to_contain_text("shop")
        expect(page.locator("#servers tr")).to_have_count(4)
        expect(page.locator("#servers [data-state=good]")).to_have_count(4)
        expect(page.locator("#servers-hint")).to_contain_text("no failover seen")
        before = trio.master.port
        trio.fail_over()
        expect(page.locator("#servers-hint")).to_contain_text(f"before it was 127.0.0.1:{before}")
        expect(page.locator("#servers")).to_contain_text(f"127.0.0.1:{trio.master.port}")
        trio.sentinels[2].kill()
        expect(page.locator("#notes")).to_contain_text("1 sentinel of 3 away", timeout=40_000)
        expect(page.locator("#notes")).to_contain_text(str(trio.ports[2]))
        trio.sentinels[1].kill()
        expect(page.locator("#notes")).to_contain_text("No sentinel has a quorum", timeout=60_000)
        # The master is there all the same.
        assert someone.visit("/weather/rome") in ("HIT", "MISS")


@pytest.mark.chaos
def test_dashboard__a_cluster_whose_node_is_away(person, private_cluster) -> None:
    """Nodes and shards are listed; those of a node that is away are marked, and the others go on; then all is well."""
    cluster = private_cluster()
    with Gunicorn("tests.admin.site:create_app()", threads=8, env={"RCACHE_URL": cluster.url}) as web:
        someone = person(web.url)
        someone.visit("/weather/rome")
        page = someone.sign_in().page
        expect(page.locator("#servers tr")).to_have_count(3)
        expect(page.locator("#shards li[data-state=good]")).to_have_count(16)
        expect(page.locator("#health")).to_contain_text("3 of 3 nodes, 16 of 16 shards used")
        gone = cluster.nodes[0]
        gone.kill()
        for number in range(40):
            someone.visit(f"/flights/AA{number}")
        expect(page.locator("#notes")).to_contain_text("shards of 16 away", timeout=40_000)
        expect(page.locator("#servers [data-state=bad]")).to_contain_text(f"127.0.0.1:{gone.port}")
        expect(page.locator("#servers [data-state=good]")).to_have_count(2)
        page.get_by_role("button", name="Clear all…").click()
        page.get_by_role("button", name="Clear all", exact=True).click()
        expect(page.locator("#results")).to_contain_text("Journalled")
        expect(page.locator("#servers [data-state=bad]")).to_contain_text("journalled")
        gone.restart()
        expect(page.locator("#shards li[data-state=good]")).to_have_count(16, timeout=60_000)
        expect(page.locator("#notes > *")).to_have_count(0, timeout=60_000)


def test_dashboard__queues_and_their_dead_letters(person, private_server) -> None:
    """What waits without a consumer is a banner; a write that was given up is named with its error."""
    server = private_server(maxmemory="100mb", maxmemory_policy="volatile-lru")
    with Gunicorn("tests.admin.site:create_shop()", threads=8, env={"RCACHE_URL": server.url}) as web:
        someone = person(web.url)
        page = someone.sign_in().page
        expect(page.locator("#queues tr")).to_have_count(1)
        expect(page.locator("#queues tr")).to_contain_text("no consumer")
        expect(page.locator("#notes > *")).to_have_count(0)
        someone.visit("/view/front")
        someone.visit("/view/nowhere")
        expect(page.locator("#notes")).to_contain_text("Nothing applies the writes of queue views")
        expect(page.locator("#notes")).to_contain_text("2 writes wait")
        expect(page.locator("#queues .number").first).to_have_text("2")
        someone.visit("/apply?attempts=3")  # the one that fails is left to be tried again
        someone.visit("/apply?attempts=3")
        expect(page.locator("#held")).to_contain_text("cache:views:nowhere")
        expect(page.locator("#held")).to_contain_text("tries")
        someone.visit("/apply?attempts=3")
        expect(page.locator("#dead")).to_contain_text("cache:views:nowhere")
        expect(page.locator("#dead")).to_contain_text("ValueError: no such page")
        expect(page.locator("#held-part")).to_be_hidden()
        expect(page.locator("#notes")).to_contain_text("1 write of queue views given up")


def test_dashboard__warming_tasks_and_their_buttons(person, redis_server) -> None:
    """Each task shows what became of it, and its button runs it, without anything to confirm."""
    with Gunicorn("tests.admin.site:create_shop()", threads=8, env={"RCACHE_URL": redis_server.url}) as web:
        someone = person(web.url)
        page = someone.sign_in().page
        weather = page.locator('#warming tr[data-task="weather"]')
        expect(weather).to_contain_text("failed")
        expect(weather).to_contain_text("TimeoutError: the weather service does not answer")
        expect(page.locator('#warming tr[data-task="flights"]')).to_contain_text("warm")
        page.get_by_role("button", name="Run weather").click()
        expect(page.locator("#results")).to_contain_text("1 task started: weather.")
        expect(weather.locator("[data-label=Failed]")).to_have_text("2")
        page.get_by_role("button", name="Run all").click()
        expect(page.locator("#results")).to_contain_text("2 tasks started: flights, weather.")
        for width in (360, 800, 1280):
            page.set_viewport_size({"width": width, "height": 740})
            # Charts are drawn anew once the window has its size.
            wait_until(lambda: _overflow(someone) == 0, timeout=10, what=f"it fits {width} pixels")


def test_dashboard__statements_and_what_invalidates_them(person, redis_server) -> None:
    """Each cached statement has its hits, its times, and the table whose commit made it invalid."""
    with Gunicorn("tests.admin.site:create_database()", threads=4, env={"RCACHE_URL": redis_server.url}) as web:
        someone = person(web.url)
        page = someone.sign_in().page
        expect(page.locator("#statements-card")).to_be_hidden()
        for path in ("/landed/here", "/landed/here", "/landed/here", "/land", "/landed/here"):
            someone.visit(path)
        row = page.locator("#statements tr")
        expect(row).to_have_count(1)
        expect(row.locator("th")).to_have_text("SELECT id FROM flight WHERE place = :place ORDER BY id")
        expect(row.locator("[data-label=Hits]")).to_have_text("2")
        expect(row.locator("[data-label=Misses]")).to_have_text("2")
        expect(row.locator("[data-label='Hit rate']")).to_have_text(re.compile("50"))
        expect(row.locator("[data-label='Query, 95 %']")).to_have_text(re.compile("[1-9].* .?s"))
        expect(row.locator("[data-label='Invalidated by']")).to_have_text("table:main.flight")
        for width in (360, 800, 1280):
            page.set_viewport_size({"width": width, "height": 740})
            wait_until(lambda: _overflow(someone) == 0, timeout=10, what=f"it fits {width} pixels")
        if folder := os.environ.get("DASHBOARD_SHOTS"):
            page.screenshot(path=f"{folder}/statements.png", full_page=True)


def test_dashboard__without_queues_and_tasks_has_no_card_of_them(person, redis_site) -> None:
    """An app that uses neither sees neither."""
    page = person(redis_site).sign_in().page
    expect(page.locator("#health")).to_contain_text("answers")
    expect(page.locator("#queues-card")).to_be_hidden()
    expect(page.locator("#warming-card")).to_be_hidden()


def test_dashboard__one_server_needs_no_card(person, redis_site) -> None:
    """It is in the list of what is healthy already."""
    page = person(redis_site).sign_in().page
    expect(page.locator("#health")).to_contain_text("answers")
    expect(page.locator("#servers-card")).to_be_hidden()


def test_dashboard__an_app_that_does_not_answer(person, memory_site) -> None:
    """What went wrong and when it is tried next is said, ever later; the last figures stay; one press tries at once."""
    someone = person(memory_site, clock=True).sign_in()
    page = someone.page
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    _stop_clock(someone)
    page.route("**/overview", lambda route: route.fulfill(status=500, body="<h1>oops</h1>"))
    page.clock.run_for(2000)
    expect(page.locator("#trouble")).to_contain_text("HTTP 500")
    for delay in (2, 4, 8, 16, 30, 30):
        expect(page.locator("#trouble-next")).to_have_text(f"Next try in {delay} s.")
        page.clock.run_for(delay * 1000)
    _idle(someone)
    expect(page.locator("#board")).to_be_visible()
    page.unroute("**/overview")
    page.route("**/overview", lambda route: route.abort())
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#trouble")).to_contain_text("It could not be reached.")
    page.unroute("**/overview")
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")


def test_dashboard__polls_one_at_a_time_and_not_while_hidden(person, memory_site) -> None:
    """A slow answer is waited for, and a tab that nobody sees asks nothing."""
    someone = person(memory_site, clock=True).sign_in()
    page = someone.page
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    _stop_clock(someone)
    held: list[Any] = []
    page.route("**/overview", lambda route: held.append(route))
    with page.expect_request("**/overview"):
        page.clock.run_for(2000)
    page.clock.run_for(9000)
    _hide(someone, False)  # coming back to a tab asks at once, but not beside a request under way
    _seen(someone)
    assert len(held) == 1
    held[0].continue_()
    _idle(someone)
    page.unroute("**/overview")
    _hide(someone, True)
    expect(page.locator("#pulse")).to_have_text("Paused")
    _seen(someone)
    before = _polls(someone)
    page.clock.run_for(20_000)
    _seen(someone)
    assert _polls(someone) == before
    _hide(someone, False)
    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    assert _polls(someone) == before + 1


def _stop_clock(someone: Person) -> None:
    """From here on the page's time passes by `clock.run_for` alone; the next poll is due within two seconds of it."""
    someone.page.clock.pause_at(someone.page.evaluate("Date.now() + 60000"))
    _idle(someone)


def _idle(someone: Person) -> None:
    """Wait for the answer that is under way, if one is."""
    expect(someone.page.locator("#pulse:not([data-asking])")).to_be_attached()


def _polls(someone: Person) -> int:
    return sum(address.endswith("/overview") for address in someone.addresses)


def _hide(someone: Person, hidden: bool) -> None:
    """What a browser does when its tab goes to the back."""
    someone.page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def _seen(someone: Person) -> None:
    """Every request that the page has begun is known here: they are told in order, and this is one more."""
    with someone.page.expect_request("**/icon.svg"):
        someone.page.evaluate("fetch('dashboard/icon.svg', { cache: 'no-store' }).then((answer) => answer.status)")


def test_dashboard__rates_survive_resets(person, memory_site) -> None:
    """Counters that began anew, another process, or a pause are a gap, never a rate."""
    page = person(memory_site).page
    script = """async () => {
      const { History } = await import(new URL("dashboard/history.js", document.baseURI));
      const by_type = (hits) => ({ a: { total_requests: hits } });
      const stats = (hits) => ({ hits, stale: 0, misses: 10, loads: 0, load_seconds: 0, by_type: by_type(hits) });
      const history = new History();
      for (let at = 0; at < 900; at += 2) history.add(at, "process 7", stats(64));
      const shares = new History();
      [[0, 0], [2, 10], [2.5, 11], [4, 30], [20, 40]].forEach(([at, hits]) => shares.add(at, "all", stats(hits)));
      const shown = shares.points.map((point) => point.share ?? null);
      return [history.points.length, history.points.at(-1).hits, shown, ...rates()];
      function rates() {
        const again = new History();
        for (const [at, source, hits] of [[0, "all", 100], [2, "all", 110], [4, "all", 3], [6, "all", 5],
          [8, "process 7", 50], [60, "process 7", 60], [62, "process 7", 64]]) again.add(at, source, stats(hits));
        return again.points.map((point) => (point.gap ? null : [point.hits, point.types.a]));
      }
    }"""
    assert page.evaluate(script) == [150, 0, [None, 100, 100, None], None, [5, 5], None, [1, 1], None, None, [2, 2]]


def test_dashboard__fits_narrow_windows(person, redis_site) -> None:
    """No view is wider than the window, in the dark too, whatever long names there are."""
    someone = person(redis_site, viewport={"width": 360, "height": 740}, color_scheme="dark")
    page = someone.page
    expect(page.get_by_label("Token")).to_be_visible()
    assert _overflow(someone) == 0
    someone.visit("/flights/" + "N" * 150)
    someone.visit("/weather/" + "x" * 150)
    someone.sign_in()
    expect(page.locator("#keys tr").nth(1)).to_be_visible()
    for width in (360, 520, 800, 1024):
        page.set_viewport_size({"width": width, "height": 740})
        # Charts are drawn anew once the window has its size.
        wait_until(lambda: _overflow(someone) == 0, timeout=10, what=f"it fits {width} pixels")
    page.set_viewport_size({"width": 360, "height": 740})
    page.locator("#keys tr button").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert _overflow(someone) == 0
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 40


def _overflow(someone: Person) -> int:
    """Pixels that the page is wider than its window."""
    found: int = someone.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return found


def test_dashboard__keyboard_reaches_everything(person, redis_site) -> None:
    """Tab goes through the page in order, and the chart reads its points by the arrow keys."""
    someone = person(redis_site)
    page = someone.page
    page.get_by_label("Token").fill(token())
    page.keyboard.press("Enter")
    expect(page.locator("#chart canvas[aria-hidden=true]")).to_have_count(2)
    someone.visit("/weather/keys")
    expect(page.locator("#keys tr button").first).to_be_visible()
    reached = []
    page.locator("#sign-out").focus()
    for _ in range(60):
        name = page.evaluate("document.activeElement.id || document.activeElement.textContent")
        reached.append(name)
        if name.startswith("cache:"):
            break
        page.keyboard.press("Tab")
    wanted = ["sign-out", "chart", "by-tags", "clear-all", "Invalidate…", "keys-type", "keys-pattern"]
    assert [name for name in dict.fromkeys(reached) if name in wanted][:5] == wanted[:5]
    assert set(wanted) <= set(reached)
    assert reached[-1].startswith("cache:")
    page.locator("#chart").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#readout")).to_contain_text("ago")
    expect(page.locator("#readout")).to_have_attribute("aria-live", "polite")
    page.keyboard.press("Tab")
    expect(page.locator("#readout")).to_contain_text("now")
