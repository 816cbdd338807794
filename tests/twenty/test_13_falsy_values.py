"""13: None, False, 0, empty bytes and an empty response are answers."""

from __future__ import annotations

import pytest
from flask import Flask

from flask_rcache import MISSING, RCache, cache_response
from tests.servers import Server
from tests.twenty.conftest import Fleet
from tests.twenty.kit import KIND

VALUES: tuple[object, ...] = (None, False, 0, 0.0, b"", "", [], {}, (), set())


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_behaviour_13__a_falsy_value_is_a_hit(fleet: Fleet, value: object) -> None:
    """It is loaded once, comes back as it was, and is told from nothing."""
    here, other = fleet()
    loads: list[int] = []

    def loader() -> object:
        loads.append(1)
        return value

    found = [cache.fetch(KIND, "k", loader) for cache in (here, other, here)]
    found += [other.get(KIND, "k", MISSING), other.get_many(KIND, ["k"])["k"]]
    assert found == [value] * 5
    assert {type(each) for each in found} == {type(value)}
    assert len(loads) == 1


@pytest.mark.parametrize("answer", ["", ("", 204), ("", 404), ("", 200, {"Content-Type": "image/png"})], ids=repr)
def test_behaviour_13__an_empty_response_is_a_hit(any_server: Server, answer: object) -> None:
    """The second request is answered with the same nothing, and the view does not run."""
    app, runs = Flask("empty"), []
    app.config.update(RCACHE_URL=any_server.url, RCACHE_TIMEOUT=2)
    RCache(app)

    def page() -> object:
        runs.append(1)
        return answer

    app.add_url_rule("/", view_func=cache_response(KIND)(page))
    answers = [app.test_client().get("/") for _ in range(3)]
    app.extensions["rcache"].close()
    assert [each.headers["X-Cache"] for each in answers] == ["MISS", "HIT", "HIT"]
    assert {(each.status_code, each.data, each.headers.get("Content-Type")) for each in answers} == {
        (answers[0].status_code, b"", answers[0].headers.get("Content-Type"))
    }
    assert len(runs) == 1
