"""End what a killed test run leaves behind: its servers and its temporary files.

Owns nothing but the list it is told. Run as a script by `tests.processes`: reads lines `+PID`, `-PID` and
`dir PATH` from standard input. When the writer is gone, however it went, every process group still on the
list is killed and every directory removed. A parent-death signal would not do: it fires when the *thread*
that started a server ends.
"""

import os
import select
import shutil
import signal
import sys


def follow(parent: int) -> tuple[set[int], list[str]]:
    """Keep the list until the writer is gone, and return what is left on it."""
    groups: set[int] = set()
    directories: list[str] = []
    pending = b""
    # A forked child of the run may hold the pipe open for longer than the run lives: look at the parent too.
    # What it wrote before it went is read to the end all the same.
    while (written := bool(select.select([0], [], [], 0.5)[0])) or os.getppid() == parent:
        if not written:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            text = line.decode()
            if text.startswith("+"):
                groups.add(int(text[1:]))
            elif text.startswith("-"):
                groups.discard(int(text[1:]))
            else:
                directories.append(text.removeprefix("dir "))
    return groups, directories


def main() -> None:
    """Follow the parent named on the command line, then clean up after it."""
    groups, directories = follow(int(sys.argv[1]))
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
