from __future__ import annotations

from typing import Any

import pytest

from tests.loading.stores import make_store


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """100 images of 3x8x8, in several shards."""
    return make_store(tmp_path_factory.mktemp("loader"), shard_bytes=30 * 3 * 8 * 8)
