"""The instruments: their names in Prometheus and in OpenTelemetry, their units and what they mean.

Owns the one table that both exporters read, and the bound on label values. Imports neither of the two packages.
"""

from __future__ import annotations

from typing import Final

from ..model.forks import new_lock
from ..model.named_tuple import NamedTuple

__all__ = [
    "BUCKETS",
    "CACHE",
    "COUNTERS",
    "DATABASE",
    "GAUGES",
    "IN_LATENCY",
    "KEY_PREFIX",
    "LATENCY",
    "NODE",
    "OPERATION",
    "OPERATIONS",
    "QUEUE",
    "SHARD",
    "STATEMENT",
    "TASK",
    "Instrument",
    "Labels",
]

#: The label of the cache type in Prometheus. OpenTelemetry says ``cache.type``.
KEY_PREFIX: Final = "key_prefix"
#: The label of the prefix that all keys of one cache begin with. OpenTelemetry says ``cache.name``.
CACHE: Final = "cache"
#: The label of the latency's operation. OpenTelemetry says ``cache.operation``.
OPERATION: Final = "operation"
#: The label of a server's or a sentinel's address. OpenTelemetry says ``cache.node``.
NODE: Final = "node"
#: The label of a shard's number. OpenTelemetry says ``cache.shard``.
SHARD: Final = "shard"
#: The label of a queue of writes. OpenTelemetry says ``cache.queue``.
QUEUE: Final = "queue"
#: The label of a warming task. OpenTelemetry says ``cache.task``.
TASK: Final = "task"
#: The label of a watched database's name. OpenTelemetry says ``cache.database``.
DATABASE: Final = "database"
#: The label of a cached statement's SQL, shortened. OpenTelemetry says ``cache.statement``.
STATEMENT: Final = "statement"


class Instrument(NamedTuple):
    """One instrument.

    Attributes:
        prometheus: its name there; a counter's ends with ``_total``.
        otel: its name in OpenTelemetry.
        unit: as UCUM writes it, for OpenTelemetry.
        help: what it means, in one sentence.
        labels: the names of its labels in Prometheus.
        merge: what one gauge is of several processes on one machine (a ``multiprocess_mode`` of prometheus_client).
    """

    prometheus: str
    otel: str
    unit: str
    help: str
    labels: tuple[str, ...] = (KEY_PREFIX,)
    merge: str = ""


#: By the field of ``statistics.FIELDS`` that each counts.
COUNTERS: Final[dict[str, Instrument]] = {
    "hits": Instrument("cache_hits_total", "cache.hits", "{hit}", "Fresh entries served."),
    "misses": Instrument("cache_misses_total", "cache.misses", "{miss}", "Lookups that found nothing to serve."),
    "stale": Instrument("cache_stale_total", "cache.stale", "{hit}", "Expired entries served during their refresh."),
    "bypasses": Instrument("cache_bypasses_total", "cache.bypasses", "{bypass}", "Requests that bypass the cache."),
    "errors": Instrument("cache_errors_total", "cache.errors", "{error}", "Operations that went on without the store."),
    "loads": Instrument("cache_loads_total", "cache.loads", "{load}", "Loads that ended with a result."),
    "load_seconds": Instrument("cache_load_seconds_total", "cache.load.time", "s", "Seconds spent in loads."),
    "waits": Instrument("cache_lease_waits_total", "cache.lease.waits", "{wait}", "Readers that waited for a load."),
    "wait_seconds": Instrument(
        "cache_lease_wait_seconds_total", "cache.lease.wait.time", "s", "Seconds that readers waited for loads."
    ),
    "collapsed": Instrument(
        "cache_loads_collapsed_total", "cache.loads.collapsed", "{load}", "Readers served by another reader's load."
    ),
    "refreshes": Instrument("cache_refreshes_total", "cache.refreshes", "{refresh}", "Background refreshes begun."),
    "stored": Instrument("cache_fills_stored_total", "cache.fills.stored", "{fill}", "Results stored."),
    "stored_bytes": Instrument("cache_stored_bytes_total", "cache.fills.size", "By", "Bytes of the results stored."),
    "refused": Instrument(
        "cache_fills_refused_total", "cache.fills.refused", "{fill}", "Results not stored: overtaken, or lease lost."
    ),
    "garbage": Instrument("cache_garbage_total", "cache.garbage", "{entry}", "Entries found that could not be read."),
    "sealed_failures": Instrument(
        "cache_sealed_failures_total",
        "cache.sealed.failures",
        "{entry}",
        "Entries found that were not sealed for their key with one of the app's keys.",
    ),
    "invalidations": Instrument(
        "cache_invalidations_total", "cache.invalidations", "{invalidation}", "Invalidations made."
    ),
}

#: Fields of ``statistics.FIELDS`` that are no counter here, because the latency's sum has them.
IN_LATENCY: Final = frozenset({"hit_seconds"})

LATENCY: Final = Instrument(
    "cache_latency_seconds",
    "cache.latency",
    "s",
    "Seconds that an operation of the cache took.",
    (KEY_PREFIX, OPERATION),
)
OPERATIONS: Final = ("hit", "load", "wait", "set", "invalidate")

#: Upper bounds in seconds: from a hit in memory to a load at the usual timeout of a request.
BUCKETS: Final = (
    *(0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)

_CACHE: Final = (CACHE,)
_BY_TYPE: Final = (CACHE, KEY_PREFIX)
_BY_NODE: Final = (CACHE, NODE)
_BY_SHARD: Final = (CACHE, SHARD)
_BY_QUEUE: Final = (CACHE, QUEUE)
_BY_TASK: Final = (CACHE, TASK)
_BY_STATEMENT: Final = (CACHE, DATABASE, STATEMENT)

#: By the name that ``metrics.gauges`` gives each figure. ``live*``: of the processes that are alive.
GAUGES: Final[dict[str, Instrument]] = {
    "entries": Instrument(
        "cache_entries", "cache.entries", "{entry}", "Live entries: an upper bound.", _BY_TYPE, "livemostrecent"
    ),
    "bytes": Instrument(
        "cache_bytes", "cache.size", "By", "Bytes of the live entries: an estimate.", _BY_TYPE, "livemostrecent"
    ),
    "available": Instrument(
        "cache_available", "cache.available", "1", "1 when the store answers as it should.", _CACHE, "livemin"
    ),
    "warnings": Instrument(
        "cache_store_warnings",
        "cache.store.warnings",
        "{warning}",
        "Warnings about the server's configuration.",
        _CACHE,
        "livemax",
    ),
    "loads_running": Instrument(
        "cache_loads_long_running",
        "cache.loads.long_running",
        "{load}",
        "Loads that have been running for more than a second.",
        _CACHE,
        "livemostrecent",
    ),
    "tier_entries": Instrument(
        "cache_memory_tier_entries",
        "cache.memory_tier.entries",
        "{entry}",
        "Entries in the memory tiers of this machine's processes.",
        _CACHE,
        "livesum",
    ),
    "tier_bytes": Instrument(
        "cache_memory_tier_bytes",
        "cache.memory_tier.size",
        "By",
        "Bytes in the memory tiers of this machine's processes.",
        _CACHE,
        "livesum",
    ),
    "tier_max_bytes": Instrument(
        "cache_memory_tier_max_bytes",
        "cache.memory_tier.limit",
        "By",
        "Bytes that these memory tiers may hold.",
        _CACHE,
        "livesum",
    ),
    "bus_alive": Instrument(
        "cache_bus_alive", "cache.bus.alive", "1", "1 when invalidations of other processes arrive.", _CACHE, "livemin"
    ),
    "breaker_open": Instrument(
        "cache_breaker_open", "cache.breaker.open", "1", "1 while the store is not used.", _CACHE, "livemax"
    ),
    "journal_pending": Instrument(
        "cache_journal_pending",
        "cache.journal.pending",
        "{invalidation}",
        "Invalidations that the store has not acknowledged.",
        _CACHE,
        "livesum",
    ),
    "generation": Instrument(
        "cache_generation",
        "cache.generation",
        "{generation}",
        "Generation of the connections: it grows with each outage and failover.",
        _CACHE,
        "livemax",
    ),
    "failover_at": Instrument(
        "cache_last_failover_timestamp_seconds",
        "cache.last_failover.time",
        "s",
        "When a process last found another server, or one that was restarted; 0 if it never did.",
        _CACHE,
        "livemax",
    ),
    "node_available": Instrument(
        "cache_node_available", "cache.node.available", "1", "1 while the node is used.", _BY_NODE, "livemin"
    ),
    "node_away": Instrument(
        "cache_node_away_seconds",
        "cache.node.away.time",
        "s",
        "Seconds since the node was last used; 0 while it is.",
        _BY_NODE,
        "livemax",
    ),
    "node_memory": Instrument(
        "cache_node_memory_bytes",
        "cache.node.memory.usage",
        "By",
        "Memory in use by the node.",
        _BY_NODE,
        "livemostrecent",
    ),
    "node_memory_max": Instrument(
        "cache_node_memory_max_bytes",
        "cache.node.memory.limit",
        "By",
        "Memory that the node may use; 0 when it has no limit.",
        _BY_NODE,
        "livemostrecent",
    ),
    "node_evicted": Instrument(
        "cache_node_evicted_keys",
        "cache.node.evicted_keys",
        "{key}",
        "Keys that the node has evicted since it was started.",
        _BY_NODE,
        "livemostrecent",
    ),
    "node_shards": Instrument(
        "cache_node_shards", "cache.node.shards", "{shard}", "Shards of a cluster on the node.", _BY_NODE, "livemax"
    ),
    "shard_available": Instrument(
        "cache_shard_available", "cache.shard.available", "1", "1 while the shard is used.", _BY_SHARD, "livemin"
    ),
    "shard_pending": Instrument(
        "cache_shard_journal_pending",
        "cache.shard.journal.pending",
        "{invalidation}",
        "Invalidations that the shard has not acknowledged.",
        _BY_SHARD,
        "livesum",
    ),
    "sentinel_available": Instrument(
        "cache_sentinel_available",
        "cache.sentinel.available",
        "1",
        "1 when the sentinel answers and knows the master.",
        _BY_NODE,
        "livemin",
    ),
    "sentinel_quorum": Instrument(
        "cache_sentinel_quorum",
        "cache.sentinel.quorum",
        "1",
        "1 when a sentinel has a quorum, so that a failover can happen.",
        _CACHE,
        "livemin",
    ),
    "server_memory": Instrument(
        "cache_server_memory_bytes",
        "cache.server.memory.usage",
        "By",
        "Memory in use by the server.",
        _CACHE,
        "livemostrecent",
    ),
    "server_memory_max": Instrument(
        "cache_server_memory_max_bytes",
        "cache.server.memory.limit",
        "By",
        "Memory that the server may use; 0 when it has no limit.",
        _CACHE,
        "livemostrecent",
    ),
    "clock_offset": Instrument(
        "cache_server_clock_offset_seconds",
        "cache.server.clock_offset",
        "s",
        "Seconds that the server's clock is ahead of this machine's.",
        _CACHE,
        "livemostrecent",
    ),
    "queue_length": Instrument(
        "cache_queue_length",
        "cache.queue.length",
        "{write}",
        "Writes in a queue that are not applied.",
        _BY_QUEUE,
        "livemostrecent",
    ),
    "queue_pending": Instrument(
        "cache_queue_pending",
        "cache.queue.pending",
        "{write}",
        "Those of them that a consumer has taken.",
        _BY_QUEUE,
        "livemostrecent",
    ),
    "queue_lag": Instrument(
        "cache_queue_lag_seconds",
        "cache.queue.lag",
        "s",
        "Seconds for which the first write that is not applied has waited.",
        _BY_QUEUE,
        "livemostrecent",
    ),
    "queue_dead": Instrument(
        "cache_queue_dead_letters",
        "cache.queue.dead_letters",
        "{write}",
        "Writes that were given up.",
        _BY_QUEUE,
        "livemostrecent",
    ),
    "queue_consumed": Instrument(
        "cache_queue_has_consumer",
        "cache.queue.has_consumer",
        "1",
        "1 while a consumer has the queue.",
        _BY_QUEUE,
        "livemostrecent",
    ),
    "events_lag": Instrument(
        "cache_events_lag",
        "cache.events.lag",
        "{event}",
        "Events that no consumer has been given.",
        _CACHE,
        "livemostrecent",
    ),
    "events_pending": Instrument(
        "cache_events_pending",
        "cache.events.pending",
        "{event}",
        "Events that a consumer has been given and not ended.",
        _CACHE,
        "livemostrecent",
    ),
    "warming_duration": Instrument(
        "cache_warming_duration_seconds",
        "cache.warming.duration",
        "s",
        "Seconds that the last run of a warming task took.",
        _BY_TASK,
        "livemostrecent",
    ),
    "warming_failed": Instrument(
        "cache_warming_failed",
        "cache.warming.failed",
        "1",
        "1 when the last run of a warming task failed.",
        _BY_TASK,
        "livemostrecent",
    ),
    "warming_success": Instrument(
        "cache_warming_last_success_timestamp_seconds",
        "cache.warming.last_success.time",
        "s",
        "When a warming task succeeded last; 0 if it never did.",
        _BY_TASK,
        "livemostrecent",
    ),
    "statement_hits": Instrument(
        "cache_statement_hits",
        "cache.statement.hits",
        "{hit}",
        "Results of a cached statement that the cache had, in all processes.",
        _BY_STATEMENT,
        "livemostrecent",
    ),
    "statement_misses": Instrument(
        "cache_statement_misses",
        "cache.statement.misses",
        "{miss}",
        "Times that a cached statement was run in the database, by all processes.",
        _BY_STATEMENT,
        "livemostrecent",
    ),
    "statement_query_time": Instrument(
        "cache_statement_query_seconds",
        "cache.statement.query.time",
        "s",
        "Seconds that these runs took.",
        _BY_STATEMENT,
        "livemostrecent",
    ),
    "statement_cache_time": Instrument(
        "cache_statement_cache_seconds",
        "cache.statement.cache.time",
        "s",
        "Seconds that these hits took.",
        _BY_STATEMENT,
        "livemostrecent",
    ),
}


class Labels:
    """Bounds the values of a label: the first ``limit`` names stand for themselves, the others are ``"other"``.

    Args:
        limit: names kept. More than this many series are a mistake (a type made for each user, say), and a monitoring
            system must not break because of it.
    """

    def __init__(self, limit: int = 200) -> None:
        self._limit: Final = limit
        self._known: Final[set[str]] = set()
        self._lock: Final = new_lock()

    def of(self, name: str) -> str:
        """The value for a name; ``"none"`` for what belongs to no type."""
        if not name:
            return "none"
        if name not in self._known:
            with self._lock:
                if len(self._known) >= self._limit and name not in self._known:
                    return "other"
                self._known.add(name)
        return name
