"""Which tests of Flask-Caching and cachelib do not pass, and why: all of them.

``docs/migrating.md`` shows the same table; a test compares them. A test of theirs that is listed and passes fails.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

__all__ = ["COLLECTED", "DEVIATIONS", "Deviation", "reason_of", "shown_table"]

#: The ids of all of their tests that a run has collected.
COLLECTED: Final = pytest.StashKey[list[str]]()


class Deviation(NamedTuple):
    """Tests of one file that fail for one reason.

    Args:
        library: ``flask_caching`` or ``cachelib``.
        file: without ``.py``.
        tests: names of the functions, each with all its parameters.
        reason: one sentence, as the documentation shows it.
    """

    library: str
    file: str
    tests: tuple[str, ...]
    reason: str


DEVIATIONS: Final = (
    Deviation(
        "flask_caching",
        "test_basic_app",
        ("test_dict_config_initapp", "test_dict_config_both"),
        "They look for an instance of Flask-Caching's `SimpleCache`; the backend is ours.",
    ),
    Deviation(
        "flask_caching",
        "test_basic_app",
        (
            "test_app_redis_cache_backend_url_default_db",
            "test_app_redis_cache_backend_url_custom_db",
            "test_app_redis_cache_backend_url_explicit_db_arg",
        ),
        "They look into the client that `RedisCache` has in a private attribute; connections are the engine's.",
    ),
    Deviation(
        "flask_caching",
        "test_basic_app",
        ("test_app_custom_cache_backend",),
        "A backend of the app's own has no stamps and no leases: `CACHE_TYPE` names one of the stores here.",
    ),
    Deviation(
        "flask_caching",
        "test_memoize",
        (
            "test_memoize_version_key_outlives_newest_entry",
            "test_memoize_version_key_expires_once_its_entries_have",
            "test_memoize_verhash_delete",
            "test_memoize_annotated_delete",
        ),
        "They read the version key of a memoized function; there is none, its values have tags.",
    ),
    Deviation(
        "flask_caching",
        "test_memoize",
        ("test_memoize_delete_resets_version_key",),
        "In the request that has invalidated something, a value that is loaded afterwards is returned and not stored: "
        "it may be made of what the request had read before.",
    ),
    Deviation(
        "flask_caching",
        "test_memoize",
        ("test_memoize_classfunc_delete",),
        "What is loaded after a cached value was read, in the same request, is invalidated together with that.",
    ),
    Deviation(
        "flask_caching",
        "test_memoize",
        ("test_memoize_kwargs_to_args",),
        "It calls a private method; keys are made in another way.",
    ),
    Deviation(
        "cachelib",
        "test_simple_cache",
        ("test_threshold", "test_prune_old_entries", "test_threshold_zero_defaults_to_500"),
        "Memory is bounded by bytes (`RCACHE_L1_BYTES`), not by a number of entries; they look into the private dict.",
    ),
    Deviation(
        "cachelib",
        "test_simple_cache",
        ("test_concurrent_set_no_data_corruption", "test_concurrent_get_set_preserves_valid_shared_values"),
        "They count the entries of the private dict after all that they test has passed.",
    ),
)


def reason_of(nodeid: str) -> str | None:
    """Why a test of theirs does not pass; ``None`` for one that does.

    Args:
        nodeid: ``tests/compat/upstream/cachelib/test_simple_cache.py::TestSimpleCache::test_threshold[SimpleCache]``.
    """
    path, _, rest = nodeid.partition("::")
    library, file = path.removesuffix(".py").split("/")[-2:]
    test = rest.rpartition("::")[2].partition("[")[0]
    for each in DEVIATIONS:
        if each.library == library and each.file == file and test in each.tests:
            return each.reason
    return None


def shown_table() -> str:
    """The table as the documentation has it."""
    lines = ["| library | tests | why |", "|---|---|---|"]
    for each in DEVIATIONS:
        tests = ", ".join(f"`{test}`" for test in each.tests)
        lines.append(f"| {each.library} `{each.file}` | {tests} | {each.reason} |")
    return "\n".join(lines) + "\n"
