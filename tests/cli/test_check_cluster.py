"""`check` and `stats` of a cluster: every master is looked at, and what is away is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.cli.conftest import AppFactory
from tests.cli.kit import manager, run, told
from tests.clusters import Cluster
from tests.processes import ROOT, wait_until
from tests.servers import Server

Clusters = Callable[..., Cluster]


def checked(app: Flask) -> dict[str, list[dict[str, Any]]]:
    """The findings by name, whether the check fails or not."""
    document = json.loads(app.test_cli_runner().invoke(args=["cache", "check", "--json"]).stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in document["checks"]:
        found.setdefault(finding["name"], []).append(finding)
    return found


def states(found: dict[str, list[dict[str, Any]]]) -> dict[str, set[str]]:
    return {name: {each["state"] for each in findings} for name, findings in found.items()}


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_check__a_cluster_as_it_should_be(new_app: AppFactory, private_cluster: Clusters, flavour: str) -> None:
    """What is true of all nodes is one line, and nothing is left behind on any of them."""
    cluster = private_cluster(flavour, maxmemory="100mb", maxmemory_policy="volatile-lru")
    app = new_app(cluster.url)
    found = checked(app)
    names = ["topology", "store", "server", "memory", "database", "persistence", "clock", "rights", "entries", "bus"]
    assert {name: states(found)[name] for name in names} == {name: {"ok"} for name in names}
    assert all(len(found[name]) == 1 for name in names)
    assert "16 shards on 3 masters" in found["topology"][0]["message"]
    assert "3 nodes alike" in found["memory"][0]["message"]
    listed: list[Any] = [node.client().keys("*") for node in cluster.nodes]
    left = {key for keys in listed for key in keys}
    assert not [key for key in left if b"check-" in key or b"probe" in key]


def test_check__one_node_that_is_set_up_otherwise(new_app: AppFactory, private_cluster: Clusters) -> None:
    """Of a thing that is wrong on one node, that node is named."""
    cluster = private_cluster(maxmemory="100mb", maxmemory_policy="volatile-lru")
    odd = cluster.nodes[1]
    odd.client().config_set("maxmemory-policy", "allkeys-random")
    (finding,) = checked(new_app(cluster.url))["memory"]
    assert finding["state"] == "warn"
    assert finding["message"].startswith(f"127.0.0.1:{odd.port}: maxmemory-policy allkeys-random")


def test_check__full_coverage(new_app: AppFactory, private_cluster: Clusters) -> None:
    """The default, by which one master that is away takes all the others with it, is a warning."""
    cluster = private_cluster(cluster_require_full_coverage="yes")
    (finding,) = checked(new_app(cluster.url))["persistence"]
    assert finding["state"] == "warn"
    assert "all 3 nodes: cluster-require-full-coverage yes" in finding["message"]


@pytest.mark.chaos
def test_check__a_node_that_is_away(new_app: AppFactory, private_cluster: Clusters) -> None:
    """Its shards are a failure, the other nodes are looked at all the same; and after it is back all is well."""
    cluster = private_cluster()
    app = new_app(cluster.url)
    assert states(checked(app))["topology"] == {"ok"}
    gone = cluster.nodes[0]
    gone.kill()
    manager(app).invalidate_type("page")
    found = checked(app)
    assert states(found)["topology"] == {"fail"}
    assert "of 16 shards cannot be used" in found["topology"][0]["message"]
    assert str(gone.port) in found["topology"][0]["message"]
    assert "2 nodes alike" in found["server"][0]["message"]
    text = app.test_cli_runner().invoke(args=["cache", "stats"]).output
    assert re.search(rf"127\.0\.0\.1:{gone.port}  away for .* shards \d", text)
    assert re.search(r"shards [\d, ]+  memory \S+ [KM]B", text)
    listing = app.test_cli_runner().invoke(args=["cache", "keys"])
    assert listing.exit_code == 1
    assert f"127.0.0.1:{gone.port} (shards " in listing.output
    assert told(app, "keys", code=1)["complete"] is False
    gone.restart()
    cluster.wait_well()
    wait_until(lambda: states(checked(app))["topology"] == {"ok"}, timeout=60, what="the shards are back")


def test_check__all_nodes_away(new_app: AppFactory, private_cluster: Clusters) -> None:
    """One failure with the cause."""
    cluster = private_cluster()
    app = new_app(cluster.url)
    for node in cluster.nodes:
        node.kill()
    found = checked(app)
    assert states(found)["store"] == {"fail"}
    assert "topology" not in found


def test_check__a_server_that_is_no_cluster(new_app: AppFactory, any_server: Server) -> None:
    """The URL that is meant is said."""
    app = new_app(any_server.url.replace("redis://", "redis+cluster://"))
    (finding,) = checked(app)["store"]
    assert "is no cluster: write redis://" in finding["message"]


@pytest.mark.parametrize("flavour", ["redis", "valkey"])
def test_check__rights_on_a_cluster(new_app: AppFactory, private_cluster: Clusters, flavour: str) -> None:
    """The documented rules are enough there as well; one command less is named, with what a cluster needs beside."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    match = re.search(r"ACL SETUSER shop (on >secret[^`]*)```", page)
    assert match
    cluster = private_cluster(flavour)
    beside = re.search(r"On a cluster it needs `([^`]*)`", page)
    assert beside
    rules = [*match[1].split(), *beside[1].split()]
    for node in cluster.nodes:
        node.client().execute_command("ACL", "SETUSER", "shop", *rules)
    url = cluster.url.replace("redis+cluster://", "redis+cluster://shop:secret@")
    found = checked(new_app(url))
    assert {name: states(found)[name] for name in ("rights", "entries", "bus")} == {
        "rights": {"ok"},
        "entries": {"ok"},
        "bus": {"ok"},
    }
    cluster.nodes[0].client().execute_command("ACL", "SETUSER", "shop", "-lpush")
    (finding,) = checked(new_app(url))["rights"]
    assert finding["remedy"] == "ACL SETUSER shop +lpush"
    assert finding["message"].startswith(f"127.0.0.1:{cluster.nodes[0].port}: ")


def test_stats__of_a_cluster(new_app: AppFactory, private_cluster: Clusters) -> None:
    """Each node with its shards, in JSON with all that is known of them."""
    cluster = private_cluster(replicas=1)
    app = new_app(cluster.url)
    manager(app).fetch("page", "k", lambda: "v")
    assert "cluster   3 nodes, 16 of 16 shards used" in run(app, "stats").stdout

    def nodes() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = told(app, "stats")["topology"]["nodes"]
        return found

    assert sorted(number for node in nodes() for number in node["shards"]) == [*range(16)]
    # A replica that has just joined is in the map of slots a little later.
    wait_until(lambda: all(len(node["replicas"]) == 1 for node in nodes()), timeout=60, what="the replicas")
