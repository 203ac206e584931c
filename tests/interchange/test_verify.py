"""An imported store carries hashes, and one changed byte is found."""

from pathlib import Path

import largeds_native as lds
from tests.builders.stores import make_random_store


def test_one_changed_byte(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "a.lds")
    assert store.verify().ok
    images = store.shards[1].path / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    assert lds.open(tmp_path / "a.lds").verify().damaged == (5,)
