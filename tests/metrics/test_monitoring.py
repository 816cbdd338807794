"""The dashboard and the alert rules in docs/monitoring name only what is exported, and Grafana knows each field."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flask_rcache import CacheType
from flask_rcache.metrics.names import GAUGES
from flask_rcache.metrics.prometheus import instrument
from tests.metrics.kit import cache
from tests.processes import ROOT, wait_until

FOLDER = ROOT / "docs" / "monitoring"

#: What Prometheus itself adds to every series of a target.
TARGET_LABELS = {"job", "instance"}

_NAME = re.compile(r"\bcache_[a-z_]+\b")
_SELECTOR = re.compile(r"\b(cache_[a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"[^"]*"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
_AGGREGATION = re.compile(r"\b(?:sum|min|max|avg|count)\s+by\s*\(([^)]*)\)\s*(\((?:[^()]|\([^()]*\))*\))")


def _expressions() -> dict[str, str]:
    """Every PromQL expression of both files, by where it stands."""
    rules = _rules()
    found = {f"alert {rule['alert']}": rule["expr"] for rule in rules}
    for panel in _dashboard()["panels"]:
        for target in panel.get("targets", []):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for variable in _dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["query"]["query"]
    return found


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
    return dashboard


def _names_of(expression: str) -> set[str]:
    """The metrics that an expression reads: not what stands in quotes, nor in its groupings."""
    return set(_NAME.findall(_GROUPING.sub("", re.sub(r'"[^"]*"', '""', expression))))


def _labels_of(expression: str) -> dict[str, set[str]]:
    """The labels that an expression asks of each metric, in its selectors and in the aggregation around it."""
    asked: dict[str, set[str]] = {name: set() for name in _names_of(expression)}
    for name, matchers in _SELECTOR.findall(expression):
        asked[name].update(_MATCHER.findall(matchers))
    plain = re.sub(r'"[^"]*"', '""', expression)
    for grouping, inner in _AGGREGATION.findall(plain):
        labels = {label.strip() for label in grouping.split(",") if label.strip()}
        for name in _names_of(inner):
            asked[name].update(labels)
    return asked


@pytest.fixture
def exported(redis_server) -> dict[str, set[str]]:
    """The labels of every exported series, by name, after some traffic on a Redis."""
    registry = CollectorRegistry()
    items = CacheType("items", ttl=60)
    labels: dict[str, set[str]] = {}
    with cache(redis_server.url) as manager:
        instrument(manager, registry=registry)
        for _ in range(2):
            manager.fetch(items, "k", lambda: 1)
        manager.engine.statistics.statements.of("", "SELECT 1").missed(0.1, rows=1)

        def complete() -> bool:
            for family in text_string_to_metric_families(generate_latest(registry).decode()):
                for sample in family.samples:
                    labels.setdefault(sample.name, set()).update(sample.labels)
            return {"cache_bus_alive", "cache_statement_hits"} <= labels.keys()

        wait_until(complete, timeout=30, what="the bus's life, and a statement")
    # One server has neither sentinels nor shards, and this app neither queues nor tasks: theirs are in the table.
    others = re.compile(r"cache_(sentinel|shard|node_shards|queue|events|warming)")
    of_others = [each for each in GAUGES.values() if others.match(each.prometheus)]
    return {**{each.prometheus: set(each.labels) for each in of_others}, **labels}


def test_monitoring__every_name_is_exported(exported: dict[str, set[str]]) -> None:
    """A panel or an alert on a metric that does not exist would never show anything."""
    unknown = {
        where: _names_of(expression) - set(exported)
        for where, expression in _expressions().items()
        if _names_of(expression) - set(exported)
    }
    assert unknown == {}


def test_monitoring__every_expression_reads_a_metric() -> None:
    """The pattern that finds names finds some in each expression."""
    expressions = _expressions()
    assert len(expressions) > 40
    assert [where for where, expression in expressions.items() if not _names_of(expression)] == []


def test_monitoring__every_label_exists(exported: dict[str, set[str]]) -> None:
    """Selectors and groupings use labels that the metric has, or that Prometheus adds."""
    unknown = {}
    for where, expression in _expressions().items():
        for name, labels in _labels_of(expression).items():
            if labels - exported[name] - TARGET_LABELS:
                unknown[where] = (name, labels - exported[name] - TARGET_LABELS)
    assert unknown == {}


def test_monitoring__every_label_of_an_annotation_survives_the_expression() -> None:
    """`{{ $labels.x }}` is empty where the aggregation drops x."""
    for rule in _rules():
        kept = [{each.strip() for each in group.split(",")} for group, _ in _AGGREGATION.findall(rule["expr"])]
        assert kept, rule["alert"]
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert used <= set.intersection(*kept), rule["alert"]
        assert len({frozenset(each) for each in kept}) == 1, f"{rule['alert']} joins different groupings"


def test_monitoring__a_wrong_name_or_label_is_found() -> None:
    """The two checks above can fail."""
    wrong = 'sum by (job, tier) (rate(cache_hit_total{tpye="x",job=~"$job"}[5m])) > sum by (le) (cache_bytes)'
    assert _names_of(wrong) == {"cache_hit_total", "cache_bytes"}
    assert _labels_of(wrong) == {"cache_hit_total": {"job", "tier", "tpye"}, "cache_bytes": {"le"}}


def test_alerts__are_complete_rules() -> None:
    """Each rule has what Prometheus wants, a severity, and words for who is woken by it."""
    content = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    assert set(content) == {"groups"}
    names = []
    for group in content["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}, rule
            assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
            assert re.fullmatch(r"[1-9]\d*[smhd]", rule["for"])
            assert rule["labels"]["severity"] in ("info", "warning", "critical")
            assert set(rule["annotations"]) == {"summary", "runbook"}
            assert len(rule["annotations"]["runbook"]) > 60
            assert rule["expr"].count("(") == rule["expr"].count(")")
            names.append(rule["alert"])
    assert len(set(names)) == len(names)


def test_alerts__the_ones_that_were_promised_are_there() -> None:
    """Hit ratio below 70 % for ten minutes, memory near the maximum, lease storms, breaker, journal."""
    rules = {rule["alert"]: rule for rule in _rules()}
    assert "< 0.7" in rules["CacheHitRatioLow"]["expr"]
    assert rules["CacheHitRatioLow"]["for"] == "10m"
    assert {"CacheServerMemoryHigh", "CacheLeaseStorm", "CacheBreakerOpen", "CacheJournalNotEmpty"} <= set(rules)


def test_dashboard__can_be_imported() -> None:
    """Panels have ids of their own, do not overlap, and take the data source that the user chooses."""
    dashboard = _dashboard()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$(?:\{(\w+)\}|([a-z]\w*))", json.dumps(dashboard)))
    assert {name for pair in used for name in pair if name} == variables


def _lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """The paths of what is in one JSON document and not in another."""
    if isinstance(given, dict):
        for key, value in given.items():
            inner = f"{path}/{key}"
            if isinstance(kept, dict) and key in kept:
                yield from _lost(value, kept[key], inner)
            else:
                yield inner
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _lost(value, kept[index] if index < len(kept) else None, f"{path}/{index}")
    elif given != kept:
        yield path


def _unknown_to_grafana(dashboard: dict[str, Any]) -> set[str]:
    """The fields that Grafana's own types have nothing for, of the dashboard, its panels and their queries."""
    read = json.loads(json.dumps(GrafanaDashboard.from_json(dashboard), cls=JSONEncoder))
    # Of a query for values of a label Grafana's interface writes down a second form, which the types leave out.
    return {path for path in _lost(dashboard, read) if not path.endswith("/definition")}


def test_dashboard__has_grafanas_fields() -> None:
    """Grafana's own types read the whole file; a field that is misspelled, at any depth, would be lost."""
    register_default_plugins()
    dashboard = _dashboard()
    assert _unknown_to_grafana(dashboard) == set()
    panel = next(panel for panel in dashboard["panels"] if panel.get("targets"))
    panel["gridPoss"] = panel["fieldConfig"]["defaults"]["units"] = panel["targets"][0]["exprr"] = "x"
    assert {path.rpartition("/")[2] for path in _unknown_to_grafana(dashboard)} == {"gridPoss", "units", "exprr"}
