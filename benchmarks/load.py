"""A load generator: `wrk` where the machine has it, else threads of this process.

Owns sending requests over kept connections and what was measured. The own one is slower than `wrk`: it bounds what it
measures on a fast server, so the reports say which of them was used.
"""

from __future__ import annotations

import http.client
import re
import shutil
import statistics
import subprocess
import threading
import time
from typing import NamedTuple

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Load(NamedTuple):
    """What a server answered: requests a second, and the median and the 99th percentile in milliseconds."""

    per_second: float
    p50: float
    p99: float


def generator() -> str:
    """The name of the load generator that is used here."""
    return "wrk" if shutil.which("wrk") else "threads of one Python process (wrk is not installed)"


def send(url: str, *, seconds: float, connections: int) -> Load:
    """Send as many requests as the server answers.

    Args:
        url: of a page that answers 200.
        seconds: for which to send.
        connections: kept connections, each of which waits for its answer.

    Raises:
        RuntimeError: there were other answers.
    """
    return _wrk(url, seconds, connections) if shutil.which("wrk") else _threads(url, seconds, connections)


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise RuntimeError(f"wrk printed {text!r} where a time was expected")
    return float(match[1]) * _UNITS[match[2]]


def _wrk(url: str, seconds: float, connections: int) -> Load:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    latency = dict(re.findall(r"(50|99)%\s+(\S+)", done.stdout))
    if rate is None or len(latency) < 2 or "Non-2xx" in done.stdout:
        raise RuntimeError(f"{url}: {done.stdout}")
    return Load(float(rate[1]), _milliseconds(latency["50"]), _milliseconds(latency["99"]))


def _threads(url: str, seconds: float, connections: int) -> Load:
    host, _, path = url.removeprefix("http://").partition("/")
    end = time.monotonic() + seconds
    times: list[list[float]] = [[] for _ in range(connections)]
    failures: list[Exception] = []

    def ask(mine: list[float]) -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            while (began := time.monotonic()) < end:
                connection.request("GET", f"/{path}")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{url} answered {answer.status}")
                mine.append((time.monotonic() - began) * 1e3)
        except (OSError, http.client.HTTPException, RuntimeError) as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{url}: {failures[0]}") from failures[0]
    every = sorted(each for mine in times for each in mine)
    return Load(len(every) / seconds, statistics.median(every), every[int(len(every) * 0.99)])
