"""The images, or the pictures, of a store whose rows are no array: decoded when they are indexed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from largeds_native._internal.arrays import Array
from largeds_native.errors import StoreError
from largeds_native.store.concat_array import row_numbers
from largeds_native.store.metadata import Metadata


def no_array(path: Path, metadata: Metadata) -> StoreError:
    """The error for images of many sizes that are asked for as one array."""
    return StoreError(
        f"the images of {path} have many sizes ({metadata.pixel_facts()[0]}), so they are no array: see store[i], or "
        "store.gather(rows, resize=256, crop=224)"
    )


class ImageSequence(Sequence[Any]):
    """A row number gives an array of pixels, a slice or row numbers a list of them; `image` makes one, of this dtype
    and, unless the store's images have many sizes, of this shape."""

    def __init__(
        self,
        path: Path,
        metadata: Metadata,
        image: Callable[[int], Array],
        shape: tuple[int, ...] | None,
        dtype: np.dtype[Any],
    ) -> None:
        self._path, self._metadata, self._image, self._shape = path, metadata, image, shape
        self.dtype = dtype

    def __len__(self) -> int:
        return self._metadata.rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, *shape of one). StoreError where the images have many sizes."""
        if self._metadata.varies or self._shape is None:
            raise no_array(self._path, self._metadata)
        return (len(self), *self._shape)

    @property
    def ndim(self) -> int:
        return 4 if self._shape is None else 1 + len(self._shape)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self._image(row) for row in range(*key.indices(len(self)))]
        if np.ndim(key) > 0:
            return [self._image(int(row)) for row in row_numbers(key, len(self))]
        return self._image(int(row_numbers([operator.index(key)], len(self))[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        shape = self.shape
        if copy is False:
            raise ValueError("JPEG rows can't become an array without a copy")
        out = np.empty(shape, self.dtype if dtype is None else dtype)
        for row in range(len(self)):
            out[row] = self._image(row)
        return out
