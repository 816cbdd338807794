"""What a hit of a fragment costs by itself, in process, with the memory tier: `python -m benchmarks.fragments`.

CPU time of rendering a template that has nothing but the fragment, beside the same template with a plain call block in
its place; interleaved, the least of the rounds, since other work on the machine only adds. The goal is 100 µs
or less for a hit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from flask import Flask
from jinja2 import Template

from benchmarks import report
from flask_rcache import RCache

_TEXTS: Final = {"20 bytes": "x" * 20, "2 KB": "<li>Flight</li>\n" * 128}
_OPTIONS: Final = {"": "", ", vary and tags": ', tags=["menu", "flights"], vary=[language, 7]'}


def _plain(caller: Callable[[], str]) -> str:
    return caller()


def _cpu(template: Template, renderings: int) -> float:
    """Microseconds of CPU time for one rendering."""
    began = time.process_time()
    for _ in range(renderings):
        template.render(language="en", plain=_plain)
    return (time.process_time() - began) / renderings * 1e6


def measured(rounds: int, renderings: int) -> dict[str, tuple[float, float]]:
    """What a rendering with a hit costs, and one without the fragment; by what the fragment is."""
    app = Flask("fragments")
    app.config.update(RCACHE_URL="memory://", RCACHE_TTL_DEFAULT=3600)
    RCache(app)
    pairs = {}
    for size, text in _TEXTS.items():
        block = "{% call plain() %}" + text + "{% endcall %}"
        for options, source in _OPTIONS.items():
            name = f"{size}{options}"
            cached = f'{{% cache "{name}"{source} %}}{text}{{% endcache %}}'
            pairs[name] = app.jinja_env.from_string(cached), app.jinja_env.from_string(block)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
    with app.test_request_context():
        for number in range(rounds + 1):  # the first one fills, and does not count
            for name, templates in pairs.items():
                for template, into in zip(templates, times[name], strict=True):
                    cost = _cpu(template, renderings)
                    if number:
                        into.append(cost)
    app.extensions["rcache"].close()
    return {name: (min(hit), min(bare)) for name, (hit, bare) in times.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fragments", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--renderings", type=int, default=300, help="of each template in a round")
    report.options(parser)
    options = parser.parse_args(argv)
    found = measured(options.rounds, options.renderings)
    report.show(
        report.Report(
            name="fragments",
            title="What a hit of a fragment costs by itself",
            command="python -m benchmarks.fragments",
            method=(
                f"CPU time of a rendering, in memory; the least of {options.rounds} interleaved rounds of "
                f"{options.renderings} renderings."
            ),
            columns=("", "µs with a hit", "µs without the fragment", "difference"),
            rows=[(name, f"{hit:.0f}", f"{bare:.0f}", f"{hit - bare:.0f}") for name, (hit, bare) in found.items()],
            bars=(),
            unit="µs",
        ),
        publish=options.publish,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
