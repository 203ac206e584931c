"""Batches of a store: their order, how ranks share them, and the state from which a run resumes."""

from __future__ import annotations

from largeds_native.loading.dataset import StoreDataset
from largeds_native.loading.loader import Loader
from largeds_native.loading.shuffle_sampler import ShuffleSampler

__all__ = ["Loader", "ShuffleSampler", "StoreDataset"]
