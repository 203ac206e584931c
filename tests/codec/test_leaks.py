"""The short version of benchmarks/leak_check.py."""

from benchmarks.leak_check import ALLOWED_GROWTH, growth


def test_memory_stays_flat() -> None:
    assert growth(6000) < ALLOWED_GROWTH
