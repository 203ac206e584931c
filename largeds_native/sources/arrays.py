"""Images in arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from largeds_native._internal.arrays import MASK, Array, FieldSpec, check_field_name, layout_of
from largeds_native._internal.machine import usable_threads
from largeds_native.errors import ArgumentError
from largeds_native.sources.base import IndexedSource, Indices, Item, Source, SourceBatch
from largeds_native.sources.classes import checked_labels, optional_names
from largeds_native.sources.pictures import Beside, beside, checked_ignore, mask_array, picture_field
from largeds_native.sources.values import numpy_of, value_spec

BATCH_BYTES = 64 << 20


def arrays(
    images: Any,
    labels: Any = None,
    *,
    fields: Mapping[str, Any] | None = None,
    classes: Any = (),
    masks: Any = None,
    pictures: Mapping[str, Any] | None = None,
    ignore: int | None = None,
) -> Source:
    """A source from images of shape (N, H, W), (N, H, W, C) or (N, C, H, W), in a numpy array, memmap or tensor, with N
    integer labels and further fields of N values each. `classes`: names of the labels' numbers, or a store that has
    them.

    images: uint8 of 1 or 3 channels become what `pack` makes of any images. uint16, int16, float16 and float32, and up
        to 32 channels, are resized and cropped, and stored in their own dtype.

    masks: (N, H, W) integers of the images' height and width, one a pixel, as the field "mask"; or a mapping from names
        of fields to such arrays. They are stored in the smallest of uint8, uint16 and int32 that has all numbers.
        ignore: the number of a mask's pixels outside of the image, which a random crop with padding shows.
    pictures: {name: array} of other pictures of the images' height and width, such as depth: shaped as images are, and
        stored in their own dtype.

    The last axis has the channels if it is 1 or 3 long, else the second if it is, else the shorter one of the two.
    Raises ArgumentError for another dtype or shape.
    """
    values = {**({} if labels is None else {"label": labels}), **(fields or {})}
    further = {name: Beside(_array(one.where), one.role) for name, one in beside(masks, pictures).items()}
    return ArraySource(_array(images), values, optional_names(classes), further, ignore)


def _array(value: Any) -> Array:
    """As a numpy array, without a copy if possible; tensors are moved to the CPU."""
    if hasattr(value, "detach"):
        value = numpy_of(value)
    try:
        return np.asanyarray(value)
    except ValueError:  # numpy's own sentence does not say which argument
        raise ArgumentError(
            "expected one array, found images or values of several shapes: to pack a list of images, give a list of "
            "(image, label) pairs"
        ) from None


def images_of(where: str, images: Array) -> Array:
    """As (N, H, W, C), without a copy. `where` begins the message of the ArgumentError for another shape."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise ArgumentError(f"{where}: expected shape (N, H, W, C) or (N, C, H, W), found {images.shape}")
    if 0 in images.shape[1:]:
        raise ArgumentError(f"{where}: expected pixels, found shape {images.shape}")
    return images.transpose(0, 2, 3, 1) if layout_of(images.shape[1], images.shape[3]) == "CHW" else images


class ArraySource(IndexedSource):
    def __init__(
        self,
        images: Array,
        fields: Mapping[str, Any],
        classes: tuple[str, ...],
        pictures: Mapping[str, Beside] | None = None,
        ignore: int | None = None,
    ) -> None:
        self._given = images
        self._images = images = images_of("images", images)
        self.values = value_spec("images", images.dtype, images.shape[3])
        self.keeps_values = True
        self._fields = {name: self._checked(name, _array(value)) for name, value in fields.items()}
        self.classes = classes
        self.image_size = images.shape[1], images.shape[2]
        self.batch = max(1, BATCH_BYTES // int(np.prod(images.shape[1:])))
        self.description = f"arrays of shape {images.shape}"
        self._picture_arrays: dict[str, Array] = {}
        self._pictures: dict[str, FieldSpec] = {}
        for name, one in (pictures or {}).items():
            self._add_picture(name, one, ignore)

    def _add_picture(self, name: str, one: Beside, ignore: int | None) -> None:
        if name in self._fields:
            raise ArgumentError(f"{one.role}s: {name!r} is a field already: give the {one.role}s another name")
        if one.role == MASK:
            values = mask_array(name, one.where, len(self._images))
            spec = FieldSpec(values.dtype, role=MASK, ignore=checked_ignore(ignore, values.dtype))
        else:
            values = images_of(f"pictures: {name!r}", one.where)
            spec = picture_field(value_spec(f"pictures: {name!r}", values.dtype, values.shape[3]))
        if values.shape[:3] != self._images.shape[:3]:
            raise ArgumentError(
                f"{one.role}s: {name!r}: expected {len(self._images)} {one.role}s of {self.image_size}, found "
                f"{len(values)} of {values.shape[1:3]}"
            )
        self._picture_arrays[name], self._pictures[name] = values, spec

    def _checked(self, name: str, values: Array) -> Array:
        check_field_name(name, "fields")
        if values.shape[:1] != self._images.shape[:1]:
            raise ArgumentError(
                f"{name}: expected {len(self._images)} values, one per image, found shape {values.shape}"
            )
        if values.dtype.kind not in "biufcSU" or values.dtype.itemsize == 0:
            raise ArgumentError(f"{name}: expected numbers or strings of a fixed size, found {values.dtype}")
        if name == "label" and values.ndim == 1:
            if values.dtype.kind not in "biu":
                raise ArgumentError(
                    f"label: expected integers, found {values.dtype}; numbers to predict are a field: "
                    "sources.arrays(images, fields={'target': values}), and Loader(..., fields=('target',))"
                )
            values = checked_labels(values, "label")
        return values

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {k: FieldSpec(v.dtype.newbyteorder("<"), v.shape[1:]) for k, v in self._fields.items()}

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._pictures

    @property
    def count(self) -> int:
        return len(self._images)

    def take(self, indices: Indices) -> SourceBatch:
        """These samples; consecutive images are views, without a copy."""
        together = len(indices) > 0 and indices[-1] - indices[0] == len(indices) - 1 and (np.diff(indices) == 1).all()
        images = images_of("images", self._given[indices[0] : indices[-1] + 1] if together else self._given[indices])
        fields = {name: values[indices] for name, values in self._fields.items()}
        pictures: dict[str, list[Item]] = {name: list(values[indices]) for name, values in self._picture_arrays.items()}
        return SourceBatch(list(images), [f"#{i}" for i in indices.tolist()], fields, pictures)

    def fingerprint(self) -> str:
        """Of all pixels and fields: hashing takes the time of reading them, which is less than a pack's."""
        from largeds_native import _C

        digest = hashlib.sha256(repr((self._given.shape, self.classes)).encode())
        if self._given.dtype != np.uint8:
            digest.update(self._given.dtype.str.encode())
        for low in range(0, len(self._given), self.batch):
            images = np.ascontiguousarray(self._given[low : low + self.batch])
            digest.update(_C.hash_rows(images.data, images[0].nbytes, usable_threads()).tobytes())
        for name, values in sorted([*self._fields.items(), *self._picture_arrays.items()]):
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()
