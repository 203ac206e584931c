"""Types of arrays and fields that sources, the store format and packing share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from largeds_native.errors import StoreError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

VALUE, MASK, PICTURE = "value", "mask", "picture"  # roles of fields
MASK_DTYPES = ("uint8", "uint16", "int32")
PNG_DTYPES = ("uint8", "uint16")  # of masks, and of pictures of one channel, that are PNG rows beside JPEG rows
IMAGE_DTYPES = ("uint8", "uint16", "int16", "float16", "float32")
MAX_CHANNELS = 32
RESERVED_NAMES = ("images", "samples")  # names of other files of a shard
_FIELD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class FieldSpec:
    """A field holds one value per sample beside its image, such as a label, of this dtype and shape.

    role: "mask" or "picture" for a picture beside the image, which is cut out, resized and flipped with it; else
    "value". A mask has one integer a pixel and takes the nearest one where it is resized; `ignore` is the number of its
    pixels that lie outside of the image. Another picture is resized as the image is. The shape of a mask is (height,
    width), and that of another picture (channels, height, width), of the raw images; beside JPEG rows, they are 0.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    role: str = VALUE
    ignore: int | None = None

    @property
    def is_mask(self) -> bool:
        return self.role == MASK

    @property
    def is_picture(self) -> bool:
        return self.role != VALUE

    @property
    def values(self) -> ValueSpec:
        """Of a picture."""
        return ValueSpec(self.dtype, 1 if self.is_mask else self.shape[0])

    def of_size(self, size: tuple[int, int]) -> FieldSpec:
        """A picture's, with this (height, width)."""
        return replace(self, shape=(*(() if self.is_mask else self.shape[:1]), *size))

    def __str__(self) -> str:
        """ "int64", "float32 of shape (4,)", "masks of uint8, 255 is ignored", "pictures of uint8 with 3 channels"."""
        if self.is_mask:
            return f"masks of {self.dtype}" + ("" if self.ignore is None else f", {self.ignore} is ignored")
        if self.is_picture:
            return f"pictures of {self.values}"
        return f"{self.dtype} of shape {self.shape}" if self.shape else str(self.dtype)


@dataclass(frozen=True)
class ValueSpec:
    """Of images that are arrays: the dtype of their values, and the number of their channels."""

    dtype: np.dtype[Any]
    channels: int

    def __str__(self) -> str:
        return f"{self.dtype} with {self.channels} channel{'s' if self.channels > 1 else ''}"


def layout_of(first: int, last: int) -> str:
    """Of images whose outer axes have these lengths: "HWC" if the last is 1 or 3, else "CHW" if the first is; else the
    shorter axis has the channels, and of equal ones the first."""
    if last in (1, 3):
        return "HWC"
    return "CHW" if first in (1, 3) or first <= last else "HWC"


def has_shape_of(spec: FieldSpec, size: tuple[int, int]) -> bool:
    """Whether a field's values have the image's (height, width), as pictures would."""
    return len(spec.shape) >= 2 and size in (spec.shape[-2:], spec.shape[:2])


def is_field_name(name: str) -> bool:
    return _FIELD_NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


def check_field_name(name: object, where: str) -> str:
    """Field names become file names, so few characters are allowed. `where` begins the message of the StoreError."""
    if not isinstance(name, str) or not is_field_name(name):
        allowed = f"letters, digits, '_' and '-', at most 100, and not {' or '.join(RESERVED_NAMES)}"
        raise StoreError(f"{where}: expected a field's name ({allowed}), found {name!r:.80}")
    return name
