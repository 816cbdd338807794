"""The commands: the environments of the Makefile, what CI looks at twice, and what the tests may leave out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until


def _run(*command: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


# Where the environment comes from


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the environment script needs of the project, in a folder with a blank in its name."""
    folder = tmp_path / "a copy"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "environment", folder / ".ci")
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "pyproject.toml").write_text("[project]\n")
    return folder


def _fake_python(path: Path, *, works: str = "exit 0", pip: str = "exit 0") -> Path:
    """An interpreter that hands plain code to the real one, and stands in for what needs the network.

    Args:
        path: Where it is to stand.
        works: What importing ensurepip does.
        pip: What an installation does.
    """
    return _script(
        path,
        f"""#!/bin/sh
case "$*" in
*_base_executable*) echo "$0" ;;
*ensurepip*) {works} ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo made >>"{path.parent}/made" ;;
"-m pip "*) echo "$*" >>"{path.parent}/pip"; {pip} ;;
*) exec "{sys.executable}" "$@" ;;
esac
""",
    )


def _environment(checkout: Path, python: Path, kind: str = "demo") -> subprocess.CompletedProcess[str]:
    return _run("sh", ".ci/environment", str(checkout / ".venv"), kind, str(python), cwd=checkout)


def _count(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_environment__names_the_package_that_is_missing(checkout: Path) -> None:
    """Without ensurepip the message says what to install, and no environment is begun."""
    python = _fake_python(
        checkout / "python", works="echo \"ModuleNotFoundError: No module named 'ensurepip'\" >&2; exit 1"
    )
    result = _run("make", "demo", f"PYTHON={python}", cwd=checkout)
    assert result.returncode != 0
    assert "No module named 'ensurepip'" in result.stderr
    assert f"apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv" in result.stderr
    assert not (checkout / ".venv").exists()


def test_environment__refuses_an_old_python(checkout: Path) -> None:
    """An interpreter before 3.11 is named, together with the remedy."""
    python = _script(checkout / "python", "#!/bin/sh\ncase $* in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac\n")
    result = _run("make", "test", f"PYTHON={python}", cwd=checkout)
    assert result.returncode != 0
    assert "needs Python 3.11 or later" in result.stderr
    assert "Python 3.9.2" in result.stderr


def test_environment__is_kept_until_something_changes(checkout: Path) -> None:
    """The same project and interpreter reuse it; a changed pyproject.toml makes it again."""
    python, made = _fake_python(checkout / "python"), checkout / "made"
    for _ in range(2):
        assert _environment(checkout, python).returncode == 0
    assert _count(made) == 1
    (checkout / "pyproject.toml").write_text("[project]\nname = 'changed'\n")
    assert _environment(checkout, python).returncode == 0
    assert _count(made) == 2


def test_environment__another_interpreter_makes_it_again(checkout: Path) -> None:
    """An environment belongs to one interpreter."""
    first, made = _fake_python(checkout / "python"), checkout / "made"
    assert _environment(checkout, first).returncode == 0
    other = _script(checkout / "other", first.read_text().replace(f'exec "{sys.executable}"', "exec sh -c 'echo 2'"))
    assert _environment(checkout, other).returncode == 0
    assert _count(made) == 2


def test_environment__grows_and_serves_those_that_need_less(checkout: Path) -> None:
    """The tests add their packages to the demo's environment and the tools to theirs; each serves those before it."""
    python, made = _fake_python(checkout / "python"), checkout / "made"
    for kind in ("demo", "test", "demo", "dev", "test", "demo", "dev"):
        assert _environment(checkout, python, kind).returncode == 0
    assert _count(made) == 1
    installed = (checkout / "pip").read_text()
    assert [installed.count(each) for each in (".[async,sql]", "--group test", "--group dev")] == [1, 1, 1]
    assert installed.count(",jwks]") == 2


def test_environment__of_the_lowest_versions_is_one_of_its_own(checkout: Path) -> None:
    """It is given the lowest versions, and neither grows from another kind nor serves one."""
    shutil.copy(ROOT / ".ci" / "lowest.py", checkout / ".ci")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    python, made = _fake_python(checkout / "python"), checkout / "made"
    for kind in ("lowest", "lowest", "demo", "lowest"):
        assert _environment(checkout, python, kind).returncode == 0
    assert _count(made) == 3
    assert "--constraint" in (checkout / "pip").read_text()
    assert "flask==" in (checkout / ".venv" / "lowest.txt").read_text()


def test_environment__an_interrupted_build_does_not_count(checkout: Path) -> None:
    """What failed half way, also while growing, is made again from the beginning."""
    made = checkout / "made"
    python = _fake_python(checkout / "python", pip="exit 1")
    assert _environment(checkout, python).returncode != 0
    _fake_python(python)
    assert _environment(checkout, python).returncode == 0
    assert _count(made) == 2
    _fake_python(checkout / ".venv" / "bin" / "python", pip="exit 1")
    assert _environment(checkout, python, "dev").returncode != 0
    assert _environment(checkout, python).returncode == 0
    assert _count(made) == 3


# What CI looks at twice

_MAKE = """#!/bin/sh
echo "$*" >>"{calls}"
case "$*" in
environment-dev) exit 0 ;;
check) echo "what is checked"; exit {check} ;;
"test ARGS="*) exit {again} ;;
esac
mkdir -p .pytest_cache/v/cache
echo "{said}"
printf '%s\\n' {failed} >.pytest_cache/v/cache/lastfailed
exit {first}
"""
_AGAIN = "test ARGS=--last-failed -n 0"
_FAILED = "'  \"tests/test_{}.py::test_it\": true'"
_RACE = "'  \"tests/race/test_fleet.py::test_it\": true'"
#: What a race says of an answer that was stale, and of none.
_STALE, _NOT_STALE = "view 120 reads 80 hits 2 stale (oldest 3 ms)", "view 2 reads 0 hits 0 stale (oldest 0.0 ms)"


@pytest.mark.parametrize(
    ("first", "failed", "said", "again", "calls", "verdict"),
    [
        pytest.param(0, [], "", 0, ["test"], 0, id="nothing failed"),
        pytest.param(2, ["a", "b"], "", 0, ["test", _AGAIN], 0, id="two, once"),
        pytest.param(2, ["a", "b"], "", 2, ["test", _AGAIN], 2, id="two, twice"),
        pytest.param(2, list("abcdefghijk"), "", 0, ["test"], 1, id="too many"),
        pytest.param(2, ["race"], _NOT_STALE, 0, ["test", _AGAIN], 0, id="a slow race"),
        pytest.param(2, ["race"], _STALE, 0, ["test"], 1, id="a stale answer"),
        pytest.param(2, [], "", 0, ["test"], 1, id="no test, but the run"),
    ],
)
def test_ci__looks_twice_at_a_few_failures(
    checkout: Path, first: int, failed: list[str], said: str, again: int, calls: list[str], verdict: int
) -> None:
    """Up to ten failures get one more look, by themselves; a stale answer does not, nor does a run that broke off."""
    names = " ".join(_RACE if name == "race" else _FAILED.format(name) for name in failed) or "'{}'"
    result, made = _ci(checkout, check=0, failed=names, said=said, first=first, again=again)
    assert ([each for each in made if each.startswith("test")], result.returncode) == (calls, verdict), result.stderr


def test_ci__a_failed_check_fails_the_run(checkout: Path) -> None:
    """It goes on beside the tests, whose environment was made before; what it printed is shown when both have ended."""
    result, made = _ci(checkout, check=2, failed="'{}'", said="what is tested", first=0, again=0)
    assert (made[0], sorted(made[1:]), result.returncode) == ("environment-dev", ["check", "test"], 2)
    assert result.stdout.splitlines()[-2:] == ["what is tested", "what is checked"]
    assert "make check has failed" in result.stderr


def _ci(checkout: Path, **ends: int | str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run `.ci/run` where `make` ends as it is told, and what it was asked to make."""
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
    log = checkout / "calls"
    _script(checkout / "make", _MAKE.format(calls=log, **ends))
    for program in ("redis-server", "chromium", "promtool", "mariadbd", "docker-compose"):
        _script(checkout / program, "#!/bin/sh\n")
    path = f"{checkout}:{Path(sys.executable).parent}:/usr/bin:/bin"
    result = _run("bash", ".ci/run", cwd=checkout, env={"PATH": path})
    return result, log.read_text().splitlines()


# What the tests may leave out


def _inner_run(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a test on Redis where there is no Redis."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.conftest"]\n')
    (tmp_path / "test_inner.py").write_text("def test_ran(): pass\ndef test_on_redis(redis_server): pass\n")
    valkey = _script(tmp_path / "redis-server", "#!/bin/sh\necho 'Valkey server v=8.1.0 sha=0'\n")
    path = f"{valkey.parent}:/usr/bin:/bin"
    settings = {"PATH": path, "PYTHONPATH": str(ROOT), "REDIS_SERVER": str(valkey), "CI": "", **env}
    return _run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path, env=settings)


def test_servers__without_redis_its_tests_are_named_loudly(tmp_path: Path) -> None:
    """A Valkey under Redis's name is not taken for Redis, and what did not run is said at the end."""
    result = _inner_run(tmp_path)
    assert result.returncode == 0, result.stdout
    assert "NOT EVERYTHING RAN" in result.stdout
    assert "no Redis on this machine: only Valkey 8.1.0" in result.stdout
    assert "1 passed, 1 skipped" in result.stdout


def test_servers__without_redis_ci_fails(tmp_path: Path) -> None:
    """In CI a test that did not run fails the run."""
    result = _inner_run(tmp_path, CI="true")
    assert result.returncode == 1, result.stdout
    assert "In CI that is a failure." in result.stdout


def test_servers__a_killed_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """When the test run itself is killed, its servers and files go with it."""
    program = """
import os, signal, sys
from tests.servers import Server, find_binary
server = Server(find_binary("valkey")).start()
print(server.pid, server.directory.parent, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = _run(sys.executable, "-c", program, env={"PYTHONPATH": str(ROOT)})
    assert result.returncode < 0, result.stderr
    pid, directory = result.stdout.split()
    wait_until(lambda: not Path(directory).exists(), timeout=10, what="the directory's end")
    wait_until(lambda: not _is_alive(int(pid)), timeout=10, what="the server's end")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
