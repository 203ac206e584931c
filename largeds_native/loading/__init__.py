"""Batches of a store: in which order, who gets which, and the state to go on from."""

from __future__ import annotations

from largeds_native.loading.dataset import StoreDataset
from largeds_native.loading.loader import Loader
from largeds_native.loading.sampler import ShuffleSampler

__all__ = ["Loader", "ShuffleSampler", "StoreDataset"]
