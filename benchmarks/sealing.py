"""What it takes to seal and to open an entry, beside a plain one: python -m benchmarks.sealing.

Each figure is the best of many runs in which both take turns.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from functools import partial

from flask_rcache.codec.encryption import Encryption
from flask_rcache.codec.envelope import Codec
from flask_rcache.model.entry import Draft, StoredResponse

_SIZES = (200, 2_000, 20_000, 200_000)
_ROUNDS = 200
_KEY = "cache:page:benchmark"


def _best(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest of each, µs."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter_ns()
            call()
            best[name] = min(best[name], (time.perf_counter_ns() - begin) / 1000)
    return best


def main() -> None:
    """Print one line for each size."""
    codecs = {"plain": Codec(), "sealed": Codec(encryption=Encryption([secrets.token_bytes(32)]))}
    print(f"{'body':>8}  {'write plain':>11}  {'write sealed':>12}  {'read plain':>10}  {'read sealed':>11}  larger by")
    for size in _SIZES:
        rows = [{"id": number, "name": f"item {number}"} for number in range(size // 30)]
        body = json.dumps(rows).encode()
        draft = Draft(StoredResponse("200 OK", (("Content-Type", "application/json"),), body), 60.0, tags=("c:page",))
        raw = {name: codec.seal(draft, _KEY, created=1) for name, codec in codecs.items()}
        writes = _best({name: partial(codec.seal, draft, _KEY) for name, codec in codecs.items()})
        reads = _best({name: partial(codecs[name].unseal, each, _KEY) for name, each in raw.items()})
        print(
            f"{len(body):>8}  {writes['plain']:>8.1f} µs  {writes['sealed']:>9.1f} µs  {reads['plain']:>7.1f} µs  "
            f"{reads['sealed']:>8.1f} µs  {len(raw['sealed']) - len(raw['plain'])} bytes"
        )


if __name__ == "__main__":
    main()
