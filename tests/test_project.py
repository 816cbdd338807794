"""The project itself: its commands, its import contract, its wheel, and what its tests may leave out."""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import ROOT, wait_until

_PACKAGE = ROOT / "flask_rcache"


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
    assert [installed.count(f".[{extras}]") for extras in ("async", "test,jwks", "dev")] == [1, 1, 1]


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


# The package


def test_setup_cfg__holds_only_the_import_contract() -> None:
    """Other tools' sections in setup.cfg would silently fight pyproject.toml."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert parser.sections()
    assert [name for name in parser.sections() if name.split(":")[0] != "importlinter"] == []


def test_package__imports_only_downwards() -> None:
    """The contract in setup.cfg is kept: floors, and Flask only at the top."""
    result = _run(str(Path(sys.executable).parent / "lint-imports"), "--no-cache")
    assert result.returncode == 0, result.stdout


def test_package__an_upward_import_breaks_the_contract(tmp_path: Path) -> None:
    """The contract can be broken: an import from below is found, and so is Flask below its floor."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_PACKAGE, tmp_path / "flask_rcache", ignore=ignore)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with (tmp_path / "flask_rcache" / "errors.py").open("a") as module:
        module.write("\nimport flask\nfrom . import manager\n")
    lint = str(Path(sys.executable).parent / "lint-imports")
    result = _run(lint, "--no-cache", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode != 0
    assert "flask_rcache.errors is not allowed to import flask_rcache.manager" in result.stdout
    assert "0 kept, 2 broken" in result.stdout


def test_package__all_is_sorted_and_complete() -> None:
    """`__init__` only re-exports, and `__all__` lists exactly what it re-exports."""
    import flask_rcache

    tree = ast.parse((_PACKAGE / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    # Constants, then classes, then functions, each by name: the order that the linter keeps.
    ordered = sorted(set(flask_rcache.__all__), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert list(flask_rcache.__all__) == ordered
    assert imported - {"annotations"} == set(flask_rcache.__all__) - {"__version__"}


def test_package__offers_the_whole_contract() -> None:
    """Every name that the documentation imports from the package is there."""
    import flask_rcache

    contract = """
        RCache CacheManager CacheType FROM_HEADERS MISSING cache_response cached by_user current_cache
        invalidate_cache_type invalidate_tags invalidate_pattern invalidate_key clear_all get_cache_stats
    """
    assert [name for name in contract.split() if name not in flask_rcache.__all__] == []


def test_wheel__holds_scripts_and_type_marker(tmp_path: Path) -> None:
    """What is installed has every Lua script, the type marker and the licences, and nothing of the tests."""
    source = tmp_path / "source"
    shutil.copytree(_PACKAGE, source / "flask_rcache", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    result = _run(*pip, "--wheel-dir", str(tmp_path), str(source))
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("flask_rcache-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in _PACKAGE.rglob("*")
        if path.is_file() and path.suffix in (".py", ".lua", ".typed", ".html", ".css", ".js", ".svg", ".txt")
    }
    assert expected <= names
    assert any(name.endswith(".lua") for name in expected)
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"flask_rcache"}
