"""A store as a torch Dataset, for DataLoader."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from largeds_native.errors import ArgumentError
from largeds_native.loading.collate import COLLATES_WHOLE, items_of
from largeds_native.loading.shared import BatchMemory
from largeds_native.store import Store
from largeds_native.store.gather import BatchFormat, dataset_rows, shared_pool


class StoreDataset(Dataset[Any]):
    """Item i is (image, label): a tensor (C, H, W) of the store's dtype, then `transform(image)`; and an int, or a
    tensor of the field's dtype where labels are floats or vectors.

    Of a JPEG store with images of many sizes, the transform must give them one size for batches, such as torchvision's
    RandomResizedCrop(224). A store without labels gives images alone. `classes` and `targets` are those of
    torchvision's datasets. Where the store has several variants of an image, one is drawn with torch's random numbers.
    DataLoader asks for a whole batch at once (`__getitems__`): without a transform, the batch is gathered in one pass,
    in a worker directly into shared memory, which is reused when nobody holds the batch any more. Workers may be
    started by fork or by spawn.

    Raises RowIndexError for an index outside of -len .. len - 1, TypeError or ArgumentError for one that is not an
    integer.
    """

    def __init__(self, store: Store, transform: Callable[[Tensor], Any] | None = None) -> None:
        if not isinstance(store, Store):
            raise ArgumentError(f"store: expected a Store, as largeds_native.open gives, found {type(store).__name__}")
        self.store = store
        self.transform = transform
        self._prepare()

    def _prepare(self) -> None:
        self._targets: list[Any] | None = self.__dict__.get("_own_targets")
        store = self.store
        self._labels = store["label"] if "label" in store.fields else None
        self._format = None if store.metadata.varies else BatchFormat(store, variant="draw")
        self._memory = BatchMemory()

    @property
    def classes(self) -> list[str]:
        """The class names, where label i is `classes[i]`. Empty if the store has no class names."""
        return list(self.store.classes)

    @property
    def targets(self) -> list[Any]:
        """The label of every item. Raises AttributeError if the store has no labels, so that `hasattr` is False."""
        if self._targets is None:
            if self._labels is None:
                raise AttributeError(f"targets: {self.store.path} has no field 'label'")
            self._targets = np.asarray(self._labels[:]).tolist()
        return self._targets

    @targets.setter
    def targets(self, targets: list[Any]) -> None:
        """For a subclass with targets of its own: they are pickled with it."""
        self._targets = self._own_targets = targets

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Any:
        index = operator.index(index)
        return self._items([index], whole=False)[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        if type(self).__getitem__ is not StoreDataset.__getitem__:  # a subclass's own answers for batches too
            return [self[index] for index in indices]
        whole = COLLATES_WHOLE and self.transform is None and self._labels is not None and self._format is not None
        return self._items(indices, whole)

    def _items(self, indices: Sequence[int], whole: bool) -> list[Any]:
        rows = dataset_rows(indices, len(self), self.store.path)
        images = self._images_of_many_sizes(rows) if self._format is None else self._batch(self._format, rows, whole)
        labels = None if self._labels is None else np.asarray(self._labels[rows])
        return items_of(images, labels, self.transform, whole)

    def _batch(self, batches: BatchFormat, rows: NDArray[np.int64], whole: bool) -> Tensor:
        batch = self._memory.tensor((len(rows), *batches.image_shapes[0]), batches.dtype, whole)
        seed = int(torch.randint(1 << 62, ())) if self.store.variants > 1 else 0
        batches.gather.run(rows, seed, 0, [batch], shared_pool(None))
        return batch

    def _images_of_many_sizes(self, rows: NDArray[np.int64]) -> list[Tensor]:
        images = [torch.from_numpy(self.store.images[int(row)]) for row in rows]
        return images if self.store.layout == "CHW" else [image.permute(2, 0, 1).contiguous() for image in images]

    def __getstate__(self) -> dict[str, Any]:
        """Of a subclass too; what the core works with is made anew where it is unpickled."""
        made_anew = {"_labels", "_format", "_memory", "_targets"}
        return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()
