"""The conformance suite, on clusters of Redis and of Valkey, without and with a memory tier."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stores.conftest import CLUSTER_STORES, FEW_ROWS, kits
from tests.stores.kit import Kit
from tests.stores.test_conformance import *  # noqa: F403

pytestmark = pytest.mark.slow


@pytest.fixture(params=CLUSTER_STORES)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """Every cluster in turn, empty."""
    yield from kits(request)


@pytest.fixture(params=["valkey-cluster"])
def narrow_kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A cluster with room for a few rows of stamps on each shard only."""
    yield from kits(request, max_stamps=FEW_ROWS)
