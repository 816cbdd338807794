"""The distributions: what is in them, how an index shows them, and that they install and type-check."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.processes import ROOT

_PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_VERSION: str = _PROJECT["project"]["version"]
#: Where the tests' builds say that the project lives.
_SOURCE = "https://host.example/it"
_MINORS = (11, 12, 13, 14)

#: What a typed application has of the package: its types survive in the wheel, and a wrong call is found.
_CONSUMER = """\
from flask import Flask, Response
from flask_rcache import CacheType, RCache, cache_response, cached, current_cache, invalidate_cache_type

app = Flask(__name__)
rcache = RCache(app, types=[CacheType("price", ttl=60)])


@cached(CacheType.PRODUCT, ttl=60, tags=["prices"])
def price(number: int) -> float:
    return number * 1.5


@app.get("/<int:number>")
@cache_response(CacheType.PRODUCT)
def page(number: int) -> str:
    return str(price(number))


total: float = price(1) + price.refresh(2)
answer: Response = page(1)
removed: int = invalidate_cache_type("price")
found: float = current_cache.fetch(CacheType.PRODUCT, 1, lambda: 2.5)
"""
_WRONG = _CONSUMER + 'price("one")\n'


def _run(*command: str | Path, cwd: Path, timeout: float = 280, **variables: str) -> subprocess.CompletedProcess[str]:
    # What the tests run with (PYTHONPATH, the virtual environment) is nothing that a user has.
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "SOURCE_"))
    }
    env |= variables
    return subprocess.run(
        [str(each) for each in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def _tracked() -> set[str]:
    """Every file of the project, as the version control or, in an unpacked source distribution, the folder has them."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    folders = [ROOT / name for name in ("flask_rcache", "docs", "tests", "example_app", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in files if not {"__pycache__", "_build"} & set(path.parts)}


@dataclass(frozen=True, slots=True)
class Built:
    """What `python -m build` made of the project."""

    sdist: Path
    wheel: Path

    @property
    def sdist_names(self) -> set[str]:
        """The files of the source distribution, without its own folder."""
        with tarfile.open(self.sdist) as archive:
            return {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    @property
    def wheel_names(self) -> set[str]:
        """The files of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if not name.endswith("/")}

    @property
    def metadata(self) -> Message:
        """The wheel's METADATA; its payload is what an index shows."""
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions: the wheel is built of the unpacked source distribution, so that has what is needed."""
    # Of a copy: building leaves files behind, which would hide what another build forgets.
    folder = tmp_path_factory.mktemp("distribution")
    source = folder / "source"
    for name in _tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    # setuptools must also leave out what work leaves behind.
    (source / "flask_rcache" / "__pycache__").mkdir()
    (source / "flask_rcache" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"")
    (source / "docs" / "_build").mkdir()
    (source / "docs" / "_build" / "left.html").write_text("")
    (source / ".venv").mkdir()
    (source / ".venv" / "left.py").write_text("")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source)
    done = _run(*build, cwd=folder, SOURCE_URL=_SOURCE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return Built(sdist, wheel)


@pytest.mark.slow
def test_wheel__has_the_package_and_nothing_else(built: Built) -> None:
    """Modules, the type marker, Lua scripts, the dashboard's files and the licences; no tests, no documentation."""
    wanted = {name for name in _tracked() if name.startswith("flask_rcache/")}
    assert {name for name in built.wheel_names if ".dist-info/" not in name} == wanted
    assert {Path(name).suffix for name in wanted} >= {".py", ".typed", ".lua", ".html", ".css", ".js"}
    assert any(name.endswith("licenses/LICENSE") for name in built.wheel_names)
    assert any("licenses/" in name and "uplot" in name for name in built.wheel_names)


@pytest.mark.slow
def test_sdist__has_what_builds_documents_and_tests_the_package(built: Built) -> None:
    """Every file of the project but those of the repository's host, and nothing that work leaves behind."""
    of_the_host = {name for name in _tracked() if name.startswith((".git", ".readthedocs"))}
    made = {name for name in built.sdist_names if name == "PKG-INFO" or name.startswith("flask_rcache.egg-info/")}
    assert built.sdist_names - made == _tracked() - of_the_host
    assert {"CHANGES.md", "docs/index.md", "tests/conftest.py", "example_app/app.py"} <= built.sdist_names


@pytest.mark.slow
def test_metadata__is_for_users(built: Built) -> None:
    """Links work outside the repository, extras are those for users, and every supported Python is named."""
    text = str(built.metadata.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    ours = [target for target in targets if target.startswith(_SOURCE)]
    paths = [re.sub(r"^/(blob|raw)/v[\d.]+/", "", target.removeprefix(_SOURCE)).partition("#")[0] for target in ours]
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert all(f"/v{_VERSION}/" in target for target in ours)
    assert not {"test", "bench", "docs", "dev"} & set(built.metadata.get_all("Provides-Extra", []))
    classifiers = built.metadata.get_all("Classifier", [])
    assert [minor for minor in _MINORS if f"Programming Language :: Python :: 3.{minor}" not in classifiers] == []
    labels = {url.partition(",")[0] for url in built.metadata.get_all("Project-URL", [])}
    assert labels >= {"Homepage", "Documentation", "Changes", "Issues", "Source"}


@pytest.mark.slow
def test_metadata__names_no_address_that_nobody_gave(built: Built, tmp_path: Path) -> None:
    """A build of a source distribution has its address; one of a checkout has no URLs, and no links to files."""

    def metadata(folder: Path) -> Message:
        done = _run(sys.executable, "setup.py", "-q", "egg_info", "--egg-base", tmp_path, cwd=folder)
        assert done.returncode == 0, done.stderr
        (path,) = tmp_path.glob("*.egg-info/PKG-INFO")
        return message_from_bytes(path.read_bytes())

    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("flask_rcache-*")
    assert metadata(unpacked).get_all("Project-URL") == built.metadata.get_all("Project-URL")
    (unpacked / "PKG-INFO").unlink()
    bare = metadata(unpacked)
    assert bare.get_all("Project-URL") is None
    assert [target for target in re.findall(r"\]\(([^)\s]+)\)", str(bare.get_payload())) if "://" not in target] == []


def test_readme__relative_links_lead_somewhere() -> None:
    """In a checkout, where the README's links are relative, each is a file."""
    targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    relative = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert len(relative) > 10
    assert [target for target in relative if not (ROOT / target).exists()] == []


def _interpreters() -> dict[int, Path]:
    """The supported Pythons of this machine, by minor version: on the path, and in the folder that pyenv keeps."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [*kept.glob("*/bin"), *(Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each)]
    found = {sys.version_info.minor: Path(sys.executable)}
    for minor in _MINORS:
        for path in (folder / f"python3.{minor}" for folder in folders):
            # That it is there is not enough: pyenv's stand-ins are, for versions that are not selected.
            check = "import sys, venv, ensurepip; print(sys.version_info.minor)"
            if path.exists() and minor not in found:
                answer = subprocess.run([path, "-c", check], capture_output=True, text=True, check=False, timeout=30)
                if answer.stdout.strip() == str(minor):
                    found[minor] = path
    return found


_PYTHONS = _interpreters()


@pytest.fixture(scope="module")
def environments(built: Built, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The interpreters of empty environments with the wheel, filled as they are asked for."""
    return {}


def _installed(minor: int, built: Built, environments: dict[int, Path]) -> Path:
    """The Python of an environment that has the wheel, and what it needs, only."""
    if minor not in environments:
        folder = built.wheel.parent.parent / f"python3.{minor}"
        made = _run(_PYTHONS[minor], "-m", "venv", folder, cwd=built.wheel.parent)
        assert made.returncode == 0, made.stderr
        python = folder / "bin" / "python"
        pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", built.wheel)
        done = _run(*pip, cwd=folder)
        assert done.returncode == 0, done.stderr
        environments[minor] = python
    return environments[minor]


_USE = """
import importlib.metadata, pathlib
import flask, flask_rcache
assert "site-packages" in flask_rcache.__file__, flask_rcache.__file__
assert (pathlib.Path(flask_rcache.__file__).parent / "py.typed").exists()
app = flask.Flask("app")
flask_rcache.RCache(app)
app.config["RCACHE_ADMIN_JWT_KEY"] = "x" * 32
view = flask_rcache.cache_response("product")(lambda: "body")
app.add_url_rule("/", "page", view)
client = app.test_client()
assert [client.get("/").headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
admin = flask.Flask("admin")
admin.config.update(RCACHE_ADMIN_JWT_KEY="x" * 32, RCACHE_URL="redis://127.0.0.1:1")
flask_rcache.RCache(admin)
assert b"<html" in admin.test_client().get("/api/cache/dashboard").data
print(importlib.metadata.version("flask-rcache"))
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("minor", sorted(_PYTHONS))
def test_wheel__works_in_an_empty_environment(built: Built, environments: dict[int, Path], minor: int) -> None:
    """Installed alone it answers from the cache, serves the dashboard, and has the project's version."""
    python = _installed(minor, built, environments)
    done = _run(python, "-W", "error", "-c", _USE, cwd=python.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == _VERSION


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_wheel__types_a_users_code(built: Built, environments: dict[int, Path], checker: str, tmp_path: Path) -> None:
    """Strictly typed code passes against what is installed, and a wrong argument is an error."""
    python = _installed(sys.version_info.minor, built, environments)
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(_CONSUMER)
    wrong.write_text(_WRONG)
    if checker == "mypy":
        options = ["--strict", "--cache-dir", str(tmp_path / "cache"), "--python-executable", str(python)]
        done = _run(sys.executable, "-m", "mypy", "--config-file=", *options, right, wrong, cwd=tmp_path)
    else:
        done = _run(sys.executable, "-m", "pyright", "--pythonpath", python, right, wrong, cwd=tmp_path)
    complaints = re.findall(r"(\w+\.py):(\d+).*error", done.stdout)
    assert complaints == [("wrong.py", str(_WRONG.count("\n")))], done.stdout + done.stderr


def test_workflows__run_what_the_project_has() -> None:
    """CI's workflow calls `.ci/run`, publishing asks for no secret, and both are valid YAML with pinned permissions."""
    folder = ROOT / ".github" / "workflows"
    if not folder.exists():
        assert (ROOT / "PKG-INFO").exists(), "only a source distribution may lack the workflows"
        return
    ci, publish = (yaml.safe_load((folder / name).read_text()) for name in ("ci.yml", "publish.yml"))
    commands = [step["run"] for job in ci["jobs"].values() for step in job["steps"] if "run" in step]
    assert any(command.startswith("bash .ci/run") for command in commands)
    assert ci["permissions"] == publish["permissions"] == {"contents": "read"}
    assert publish["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (folder / "publish.yml").read_text()
