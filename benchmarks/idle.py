"""What a process costs that does nothing: commands a second that its server sees, and CPU.

`python -m benchmarks.idle` starts a server and an application with a memory tier, answers a few requests, and then
waits. The commands are those of ``INFO commandstats``, so what scripts call on the server counts too; ``sent`` are
those that came over the wire.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.rows import ours_tiered
from tests.servers import Server, find_binary


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with Server(find_binary("any")) as server, server.client() as client:
        row = ours_tiered(server)
        for _ in range(5):
            row.call()
        time.sleep(1.0)
        client.config_resetstat()
        began, cpu = time.monotonic(), time.process_time()
        time.sleep(options.seconds)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        stats = client.info("commandstats")
        row.close()
    calls = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    calls.pop("config|resetstat", None)
    sent = sum(calls.get(name, 0) for name in ("ping", "evalsha", "eval", "get", "zmscore", "hgetall"))
    print(f"idle for {seconds:.0f} s: {sum(calls.values()) / seconds:.1f} commands a second on the server,")
    print(f"{sent / seconds:.1f} of them sent, {cpu / seconds:.2%} of a core in this process")
    for name, number in sorted(calls.items(), key=lambda item: -item[1]):
        print(f"    {number / seconds:6.2f}/s {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
