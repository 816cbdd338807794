"""How a benchmark shows its figures: on the terminal, as a table in the pages that want it, and as a plot.

`publish` writes ``docs/benchmarks/NAME.svg`` and ``.png``, and replaces what stands between
``<!-- benchmark: NAME -->`` and ``<!-- end of NAME -->`` in the README and in the pages of the documentation. So every
figure that is published is what a command has printed, and the table names the command, the machine and the commit.

Prose quotes a cell of such a table between ``<!-- figure: NAME; ROW; COLUMN -->`` and ``<!-- end -->``; `publish`
replaces what stands there, too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_FOLDER = _ROOT / "docs" / "benchmarks"
_OURS, _OTHERS, _FLOOR = "#2563eb", "#94a3b8", "#cbd5e1"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the plot.

    Attributes:
        label: What it is of.
        value: Its length, in the unit of the report.
        kind: ``ours``, ``other`` or ``floor`` (what everything is compared with); its colour.
    """

    label: str
    value: float
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found.

    Attributes:
        name: The name of its plot, and of its place in the pages.
        title: What was measured.
        command: What measured it, as one types it.
        method: How, in a sentence or two.
        columns: The head of the table.
        rows: The table; the first column is text.
        bars: The plot; without any there is none.
        unit: Of the bars.
        logarithmic: Whether the bars differ by orders of magnitude.
        skipped: What could not be measured here, with the reason.
        brief: Rows of the short table ``NAME in brief``, by their text; of its first and third column.
    """

    name: str
    title: str
    command: str
    method: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[Bar]
    unit: str
    logarithmic: bool = False
    skipped: Sequence[str] = ()
    brief: Sequence[str] = ()

    def text(self) -> str:
        """The table for a terminal."""
        table = [list(self.columns), *(list(row) for row in self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [self.title, self.method, machine(), ""]
        for row in table:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            lines.append("  ".join(cells).rstrip())
        lines += [f"skipped: {each}" for each in self.skipped]
        return "\n".join(lines)

    def markdown(self) -> str:
        """The table for a page, with what it was made by."""
        lines = [f"| {' | '.join(self.columns)} |", f"|---|{'---:|' * (len(self.columns) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        lines += ["", f"`{self.command}`: {self.method} {machine()}"]
        if self.skipped:
            lines.append(f"Not measured: {'; '.join(self.skipped)}.")
        return "\n".join(lines)

    def in_brief(self) -> str:
        """The short table: some rows, and of them what is compared."""
        lines = [f"| {self.columns[0]} | {self.columns[2]} |", "|---|---:|"]
        lines += [f"| {row[0]} | {row[2]} |" for row in self.rows if row[0] in self.brief]
        return "\n".join([*lines, "", f"`{self.command}`, {machine()}"])

    def publish(self) -> None:
        """Write the plot and the tables.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        if self.bars:
            _FOLDER.mkdir(exist_ok=True)
            self._plot()
        for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))):
            text = page.read_text(encoding="utf-8")
            changed = quoted(placed(text, self.name, self.markdown()), self.name, self._cells())
            if self.brief:
                changed = placed(changed, f"{self.name} in brief", self.in_brief())
            if changed != text:
                page.write_text(changed, encoding="utf-8")

    def _cells(self) -> dict[tuple[str, str], str]:
        return {
            (row[0], column): cell for row in self.rows for column, cell in zip(self.columns[1:], row[1:], strict=True)
        }

    def _plot(self) -> None:
        import matplotlib as mpl

        mpl.use("Agg")
        # The same file from the same figures, and text that can be searched.
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": self.name})
        from matplotlib import pyplot as plt

        colours = {"ours": _OURS, "floor": _FLOOR}
        figure, axes = plt.subplots(figsize=(8, 0.9 + 0.36 * len(self.bars)), layout="constrained")
        drawn = axes.barh(
            [bar.label for bar in self.bars],
            [bar.value for bar in self.bars],
            color=[colours.get(bar.kind, _OTHERS) for bar in self.bars],
        )
        axes.bar_label(drawn, labels=[f"{bar.value:,.3g}" for bar in self.bars], padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlabel(self.unit)
        axes.set_title(self.title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
        if self.logarithmic:
            axes.set_xscale("log")
        for kind in ("svg", "png"):
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(_FOLDER / f"{self.name}.{kind}", dpi=120, metadata=metadata)
        plt.close(figure)
        svg = _FOLDER / f"{self.name}.svg"
        svg.write_text("".join(f"{line.rstrip()}\n" for line in svg.read_text(encoding="utf-8").splitlines()))


def placed(text: str, name: str, table: str) -> str:
    r"""The page with the table in the place that is marked for it; unchanged if it has none.

    >>> placed("a\\n<!-- benchmark: x -->\\nold\\n<!-- end of x -->\\nb\\n", "x", "new")
    'a\\n<!-- benchmark: x -->\\n\\nnew\\n\\n<!-- end of x -->\\nb\\n'
    """
    pattern = rf"(<!-- benchmark: {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)"
    return re.sub(pattern, lambda match: f"{match[1]}\n{table}\n\n{match[2]}", text, flags=re.DOTALL)


_FIGURE = re.compile(r"(<!-- figure: ([^;]+?); ([^;]+?); ([^;]+?) -->)(.*?)(<!-- end -->)", re.DOTALL)


def quoted(text: str, name: str, cells: Mapping[tuple[str, str], str]) -> str:
    """The page with what it quotes of one table in its prose.

    Args:
        text: The page.
        name: Of the benchmark; figures of others stay as they are.
        cells: Its table, by the text of the row and of the column.

    Raises:
        KeyError: The page quotes a row or a column that the table does not have.

    >>> quoted("<!-- figure: x; hit; ms -->?<!-- end --> ms", "x", {("hit", "ms"): "1.2"})
    '<!-- figure: x; hit; ms -->1.2<!-- end --> ms'
    """

    def cell(match: re.Match[str]) -> str:
        return match[0] if match[2] != name else f"{match[1]}{cells[match[3], match[4]]}{match[6]}"

    return _FIGURE.sub(cell, text)


def version(package: str) -> str:
    """The installed version of a package, or an empty string."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def machine() -> str:
    """What the figures were measured on, in one line."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        cpu = match[1].strip()
    commit = _git("rev-parse", "--short", "HEAD")
    # Publishing changes the documentation; what counts is the code that was measured.
    if commit and _git("status", "--porcelain", "--", "flask_rcache", "benchmarks"):
        commit += " with changes"
    parts = [
        f"{cpu}, {os.cpu_count()} cores, {platform.system()}",
        f"Python {platform.python_version()}",
        f"Flask {version('flask')}",
        f"redis-py {version('redis')}",
        *([f"commit {commit}"] if commit else []),
    ]
    return ", ".join(parts) + "."


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark with a report understands."""
    parser.add_argument("--publish", action="store_true", help="write the plot and the tables into the documentation")


def show(report: Report, *, publish: bool) -> None:
    """Print a report, and write it where it is published."""
    print(report.text(), flush=True)
    if publish:
        report.publish()
