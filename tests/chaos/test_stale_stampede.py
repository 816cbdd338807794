"""A crowd that asks for what has just expired: nobody waits, and it is loaded anew once in the whole fleet."""

from __future__ import annotations

import time

import pytest

from tests.chaos.apps import STALE_AFTER, Board
from tests.processes import scratch_directory, wait_until
from tests.race.crowd import ask_all

pytestmark = [pytest.mark.race, pytest.mark.chaos]

_WORKERS, _THREADS, _CROWD = 8, 25, 200
_LOAD = 8.0
#: A crowd of two hundred on a small machine is answered after a second or two; who waited for a load took longer.
_PROMPT = 4.0


@pytest.mark.parametrize("path", ["/aged/x", "/aged-value/x"])
def test_stampede__on_what_may_be_served_stale__waits_for_nothing(gunicorn, valkey_server, path):
    """Eight processes with 25 threads each: two hundred stale answers at once, and one refresh."""
    board = Board(scratch_directory("board"))
    env = {
        "RCACHE_URL": valkey_server.url,
        "CHAOS_DIRECTORY": str(board.directory),
        "RCACHE_TIMEOUT": "5",  # two hundred threads wake at once: an answer may well take more than 0.25 s
    }
    web = gunicorn("tests.chaos.apps:create_app()", workers=_WORKERS, threads=_THREADS, preload=True, env=env)
    first = web.get(path)[2].decode()
    time.sleep(STALE_AFTER)  # it has expired
    board.slow_down(_LOAD)
    answers = ask_all(web, path, _CROWD)
    slowest = max(answer.seconds for answer in answers)
    said = f"{len(answers)} answers, slowest {slowest:.2f} s, runs in {[run.pid for run in board.runs()]}"
    print(said)
    assert {answer.status for answer in answers} == {200}, said
    assert {answer.body for answer in answers} == {first}, said
    assert {answer.x_cache for answer in answers} <= {"STALE", ""}, said  # a value has no such header
    assert slowest < _PROMPT, said

    wait_until(lambda: len(board.runs()) > 1, timeout=10, what="a refresh")
    time.sleep(1)  # whoever else was going to load it has begun by now
    assert len(board.runs()) == 2, f"{said}; then {board.runs()}"
