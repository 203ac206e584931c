"""A store as a torch Dataset, for DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info
from torch.utils.data._utils.collate import default_collate_fn_map

from largeds_native.loader.shared import SharedSlots
from largeds_native.store import Store
from largeds_native.store.gather import BatchFormat, shared_pool


class StoreDataset(Dataset[Any]):
    """Item i is (image, label): a tensor (C, H, W) of the store's dtype, and an int; then `transform(image)`.

    A store without labels gives images alone. Of several variants one is drawn with torch's random numbers. DataLoader
    asks for a whole batch at once (`__getitems__`): without a transform it is gathered in one pass, in a worker
    straight into shared memory that is used again when the batch is gone. Workers may be made by fork or by spawn.

    Raises RowIndexError for a number outside of -len .. len - 1.
    """

    def __init__(self, store: Store, transform: Callable[[Tensor], Any] | None = None) -> None:
        from largeds_native import _C

        self.store = store
        self.transform = transform
        self._labels = store["label"] if "label" in store.fields else None
        self._format = BatchFormat(store, variant="draw")
        self._ring = _C.Ring(0, 2)  # a page that is new costs more than all that is written to it
        self._shared = SharedSlots()

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index + len(self) if index < 0 else index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        wanted = np.asarray(indices, np.int64)
        batch = self._gather(wanted)
        images: Any = batch.unbind(0)
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        if self._labels is None:
            return list(images)
        labels = np.asarray(self._labels[wanted]).tolist()
        if self.transform is not None:
            return list(zip(images, labels, strict=True))
        return [Sample(pair, batch, i) for i, pair in enumerate(zip(images, labels, strict=True))]

    def _gather(self, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        shape, dtype = (len(indices), *self._format.image_shape), self._format.dtype
        slots: Any = self._ring if get_worker_info() is None else self._shared
        out: Tensor = slots.tensor(shape, dtype)
        seed = int(torch.randint(1 << 62, ())) if self.store.variants > 1 else 0
        self._format.gather.run(indices, seed, 0, out, shared_pool(None))
        return out

    def __reduce__(self) -> tuple[Any, ...]:
        return (StoreDataset, (self.store, self.transform))


class Sample(tuple[Any, ...]):
    """(image, label) that knows the batch which its image is a view of, and where in it."""

    batch: Tensor
    place: int

    def __new__(cls, pair: tuple[Tensor, int], batch: Tensor, place: int) -> Sample:
        sample = super().__new__(cls, pair)
        sample.batch, sample.place = batch, place
        return sample

    def __reduce__(self) -> tuple[Any, ...]:
        return (tuple, (tuple(self),))


def collate_samples(samples: list[Any], *, collate_fn_map: Any = None) -> Any:
    """What default_collate gives, without a copy where the samples are one whole gathered batch."""
    batch = getattr(samples[0], "batch", None)
    if batch is None or len(batch) != len(samples):
        return default_collate([tuple(sample) for sample in samples])
    for place, sample in enumerate(samples):
        if not isinstance(sample, Sample) or sample.batch is not batch or sample.place != place:
            return default_collate([tuple(sample) for sample in samples])
    return [batch, torch.tensor([sample[1] for sample in samples])]


# torch's way of teaching default_collate a type of one's own; see its documentation
default_collate_fn_map[Sample] = collate_samples
