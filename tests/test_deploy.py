"""The files of docs/deploy: Compose reads them, Kubernetes' schemas accept them, their commands start real servers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import redis
import yaml  # type: ignore[import-untyped]

from flask_rcache.config.settings import load_settings
from tests.binaries import Binary, find_binary
from tests.processes import ROOT, Process, free_port

FOLDER = ROOT / "docs" / "deploy"
COMPOSE = sorted((FOLDER / "compose").glob("*.yaml"))
MANIFESTS = sorted((FOLDER / "kubernetes").glob("*.yaml"))
PASSWORD = "secret"

by_name = pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
by_manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """Debian has it in its package docker-compose; it needs no engine to read a file."""
    for command in (["docker-compose"], ["docker", "compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    pytest.skip("neither docker-compose nor docker compose: install docker-compose to read the Compose files")


def _config(compose: list[str], path: Path, **env: str) -> tuple[int, str]:
    """What `docker compose config` says of a file."""
    command = [*compose, "--file", str(path), "config"]
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env}
    done = subprocess.run(command, cwd=path.parent, env=environ, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@by_name
def test_compose__reads_each_file(compose: list[str], path: Path) -> None:
    """With a password it is a whole configuration; without one it says which variable is missing."""
    status, output = _config(compose, path, REDIS_PASSWORD=PASSWORD)
    assert status == 0, output
    assert "RCACHE_URL" in output
    status, output = _config(compose, path)
    assert status != 0
    assert "REDIS_PASSWORD" in output or "set it" in output


def test_compose__a_mistake_is_found(compose: list[str], tmp_path: Path) -> None:
    """A key that Compose does not know fails."""
    broken = tmp_path / "single.yaml"
    broken.write_text((FOLDER / "compose" / "single.yaml").read_text().replace("healthcheck:", "healthchek:"))
    status, output = _config(compose, broken, REDIS_PASSWORD=PASSWORD)
    assert status != 0
    assert "healthchek" in output


def _documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _versions() -> list[str]:
    """The oldest and the newest version of Kubernetes that there are schemas of."""
    folders = Path(kubernetes_validate.__file__).parent.joinpath("kubernetes-json-schema").iterdir()
    found = {match[1] for folder in folders if (match := re.match(r"v(1\.\d+)\.\d+", folder.name))}
    ordered = sorted(found, key=lambda version: int(version.partition(".")[2]))
    return [ordered[0], ordered[-1]]


@by_manifest
def test_manifests__fit_the_schemas(path: Path) -> None:
    """Each object has only fields that its kind knows, in the oldest version and in the newest."""
    documents = _documents(path)
    assert documents
    for version in _versions():
        for document in documents:
            kubernetes_validate.validate(document, version, strict=True)


def test_manifests__a_mistake_is_found() -> None:
    """A field that the kind does not know fails."""
    document = next(each for each in _documents(FOLDER / "kubernetes" / "single.yaml") if each["kind"] == "StatefulSet")
    document["spec"]["serviceNam"] = document["spec"].pop("serviceName")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, _versions()[-1], strict=True)


@by_manifest
def test_manifests__selectors_find_the_pods(path: Path) -> None:
    """Each Service, budget and policy of a file selects pods that a workload of that file makes."""
    documents = _documents(path)
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in documents if each["kind"] == "StatefulSet"]
    for each in documents:
        spec = each.get("spec", {})
        chosen = spec.get("selector") if each["kind"] == "Service" else spec.get("podSelector") or spec.get("selector")
        if each["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
            assert chosen.get("matchLabels", chosen) in labels, each["metadata"]["name"]


# What the containers run


def _scripts() -> Iterator[tuple[str, str]]:
    """Every shell script of the files, with a name."""
    for path in COMPOSE:
        for name, service in yaml.safe_load(_filled_in(path.read_text()))["services"].items():
            command = service.get("command", [])
            text = command if isinstance(command, str) else command[-1] if command[:1] == ["sh"] else ""
            if text:
                yield f"compose-{path.stem}-{name}", text.replace("$$", "$")
    for path in MANIFESTS:
        for document in _documents(path):
            for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
                for text in container.get("args", ()):
                    yield f"kubernetes-{path.stem}-{container['name']}", text
                stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ())
                if stop:
                    yield f"kubernetes-{path.stem}-{container['name']}-stop", stop[-1]


def _filled_in(text: str) -> str:
    return re.sub(r"\$\{REDIS_PASSWORD[^}]*\}", PASSWORD, text)


#: Each once: the nodes of a cluster have the same.
SCRIPTS = {name: text for text, name in {text: name for name, text in _scripts()}.items()}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts__are_shell(name: str) -> None:
    """A shell can read them."""
    done = subprocess.run(["sh", "-n"], input=SCRIPTS[name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SERVERS = [name for name, text in SCRIPTS.items() if "valkey-server" in text or "valkey-sentinel" in text]


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
@pytest.mark.parametrize("name", SERVERS)
def test_scripts__start_a_server(name: str, flavour: Any, tmp_path: Path) -> None:
    """Every option that the files give a server is one that it knows, with Redis as with Valkey."""
    started, client = _started(SCRIPTS[name], find_binary(flavour), tmp_path)
    with started as process, client as asked:
        process.wait_ready(lambda: _answers(asked), timeout=20)
        if "sentinel monitor" in SCRIPTS[name]:
            watched: Any = asked.info("sentinel")
            assert watched["master0"]["name"] == "cache"
            return
        info: Any = asked.info()
        assert info["maxmemory_policy"] == "volatile-lru"
        assert info["maxmemory"] == 512 * 1024 * 1024
        assert info["aof_enabled"] == 0
        assert bool(info["cluster_enabled"]) is ("cluster" in name)
        assert asked.config_get("save") == {"save": ""}


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


class _Run:
    """A container's script with the machine's own binaries, on a port of its own."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.process = Process(command, log_path=log, env=env)

    def __enter__(self) -> Process:
        return self.process

    def __exit__(self, *exc_info: object) -> None:
        self.process.stop()


def _started(script: str, binary: Binary, folder: Path) -> tuple[_Run, redis.Redis]:
    tools = folder / "bin"
    tools.mkdir()
    port = free_port()
    here = f"--port {port} --bind 127.0.0.1 --dir {folder}"
    cluster = f"--cluster-config-file {folder}/nodes.conf --cluster-port {free_port()}"
    wrappers = {
        "valkey-server": f'exec {binary.path} "$@" {here} {cluster}',
        "valkey-sentinel": f'exec {binary.path} "$@" --sentinel {here}',
        "valkey-cli": "exit 1",  # no sentinel answers yet
    }
    for name, line in wrappers.items():
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    # Names of containers lead nowhere here.
    script = re.sub(r"(?:cache-\d(?:\.cache)?)(?= 6379)", "127.0.0.1", script).replace("/data", str(folder))
    script = script.replace("monitor cache $master", "monitor cache 127.0.0.1")
    env = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOSTNAME": "cache-0",
        "POD_IP": "127.0.0.1",
        "REDISCLI_AUTH": PASSWORD,
        "CACHE_PASSWORD": PASSWORD,
    }
    is_sentinel = "valkey-sentinel" in script
    client = redis.Redis(port=port, password=None if is_sentinel else PASSWORD, socket_timeout=2)
    return _Run(["sh", "-ec", script], env, folder / "log"), client


# What the app is told, and the page


def test_urls__are_ones_that_the_cache_takes() -> None:
    """Each `RCACHE_URL` of the files is a valid setting."""
    found = []
    for path in (*COMPOSE, *MANIFESTS):
        text = _filled_in(path.read_text()).replace("$(CACHE_PASSWORD)", PASSWORD)
        found += re.findall(r"redis(?:\+\w+)?://\S+", text)
    assert len(found) == len(COMPOSE) + len(MANIFESTS)
    for url in found:
        assert load_settings({"RCACHE_URL": url}, {}).url == url


def test_page__shows_every_file() -> None:
    """None of the files is missing on the page that explains them."""
    page = (ROOT / "docs" / "redis.md").read_text(encoding="utf-8")
    for path in (*COMPOSE, *MANIFESTS):
        assert f"deploy/{path.parent.name}/{path.name}" in page
