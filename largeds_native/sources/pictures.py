"""Masks, and other pictures, beside the images of a source."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from largeds_native._internal.arrays import (
    IMAGE_DTYPES,
    MASK,
    MASK_DTYPES,
    PICTURE,
    Array,
    FieldSpec,
    ValueSpec,
    check_field_name,
)
from largeds_native._internal.urls import is_url, join, without_credentials
from largeds_native.errors import ArgumentError, PackError, StoreError
from largeds_native.sources.base import FailedItem, IndexedSource, Indices, Item, SourceBatch, read_bytes
from largeds_native.sources.fetch import fetch
from largeds_native.sources.listing import Listing
from largeds_native.sources.values import numpy_of

# of files without loss; what is in them is told by their first bytes
EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".pgm")
PICTURE_EXTENSIONS = (*EXTENSIONS, ".jpg", ".jpeg", ".webp", ".ppm")
PROBES = 16
Where: TypeAlias = Any  # the folder, column, key or array of one mask, or of one other picture


@dataclass(frozen=True)
class Beside:
    """Where a picture beside the images is, and its role."""

    where: Where
    role: str


def beside(masks: Where | Mapping[str, Where], pictures: Mapping[str, Where] | None) -> dict[str, Beside]:
    """The masks and the other pictures, by the names of their fields."""
    if isinstance(masks, Mapping) and not masks:
        raise ArgumentError("masks: expected where the masks are, found an empty mapping")
    if pictures is not None and not isinstance(pictures, Mapping):
        raise ArgumentError(f"pictures: expected a mapping {{'depth': where}}, found {pictures!r:.100}")
    found = {name: Beside(where, MASK) for name, where in by_field(masks).items()}
    for name, where in (pictures or {}).items():
        try:
            check_field_name(name, "pictures")
        except StoreError as error:
            raise ArgumentError(str(error)) from None
        if name in found:
            raise ArgumentError(f"pictures: {name!r} is a mask already: give the picture another name")
        found[name] = Beside(where, PICTURE)
    return found


def by_field(masks: Where | Mapping[str, Where]) -> dict[str, Where]:
    """One mask is the field "mask"; several come with the names of their fields."""
    if masks is None:
        return {}
    named = dict(masks) if isinstance(masks, Mapping) else {"mask": masks}
    try:
        for name in named:
            check_field_name(name, "masks")
    except StoreError as error:
        raise ArgumentError(str(error)) from None
    return named


def checked_ignore(ignore: int | None, dtype: np.dtype[Any]) -> int | None:
    if ignore is None:
        return None
    limits = np.iinfo(dtype)
    if isinstance(ignore, bool) or not isinstance(ignore, (int, np.integer)) or not limits.min <= ignore <= limits.max:
        raise ArgumentError(
            f"ignore: expected a number of a mask's pixels, from {limits.min} to {limits.max} as the masks are "
            f"{dtype}, "
            f"found {ignore!r}"
        )
    return int(ignore)


def mask_array(name: str, values: Array, count: int) -> Array:
    """Masks (N, H, W) of integers, in the smallest dtype that has all of them."""
    if values.ndim == 4 and 1 in (values.shape[1], values.shape[3]):
        values = values.squeeze(1 if values.shape[1] == 1 else 3)
    if values.ndim != 3 or len(values) != count or values.dtype.kind not in "biu":
        raise ArgumentError(
            f"masks: {name!r}: expected integers of shape ({count}, H, W), found {values.dtype} of shape {values.shape}"
        )
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in MASK_DTYPES:
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return values if values.dtype == dtype else values.astype(dtype)
    raise ArgumentError(f"masks: {name!r}: expected numbers of at most 32 bits, found {low} to {high}")


def spread(count: int) -> Indices:
    """Some samples, from whose masks the dtype of all is told."""
    return np.unique(np.linspace(0, count - 1, min(count, PROBES)).astype(np.int64))


class PictureFolder:
    """The masks, or other pictures, in a tree of folders, one for each image with the same path up to the ending."""

    def __init__(self, root: str | os.PathLike[str], role: str) -> None:
        self.role, self._extensions = role, EXTENSIONS if role == MASK else PICTURE_EXTENSIONS
        self._files: dict[str, str] = {}  # path without ending -> ending
        self.is_remote, self.state = is_url(root), ""
        if self.is_remote:
            self._list(str(root))
        elif not isinstance(root, (str, os.PathLike)) or not os.path.isdir(root):
            raise ArgumentError(f"{role}s: expected a folder, found {str(root)!r:.200}, which is none")
        else:
            self._walk(os.path.abspath(root))
        if not self._files:
            expected = ", ".join(self._extensions)
            raise ArgumentError(f"{role}s: expected files named {expected} in {self.root}, found none")

    def _walk(self, root: str) -> None:
        self.root = root
        for folder, _, names in sorted(os.walk(root, followlinks=True)):
            for name in sorted(names):
                self._add(os.path.relpath(os.path.join(folder, name), root))

    def _list(self, url: str) -> None:
        listing = Listing(url, self._extensions)
        self.root, self._url, self.state = without_credentials(url).rstrip("/"), url, listing.state
        for name in listing.names:
            self._add(name)

    def _add(self, path: str) -> None:
        stem, extension = os.path.splitext(path)
        if extension.lower() not in self._extensions:
            return
        if stem in self._files:
            raise ArgumentError(
                f"{self.role}s: {self.root} has {stem + self._files[stem]!r} and {path!r}: nothing tells which is the "
                f"{self.role}"
            )
        self._files[stem] = extension

    def item(self, name: str) -> Item:
        """The picture of the image with this name."""
        path = self.path(name)
        if path is None:
            stem = os.path.splitext(name)[0]
            return FailedItem("missing", f"{name}: expected a {self.role} {stem}.png in {self.root}, found none")
        return path

    def path(self, name: str) -> str | None:
        stem = os.path.splitext(name)[0]
        extension = self._files.get(stem)
        if extension is None:
            return None
        return join(self._url, stem + extension) if self.is_remote else os.path.join(self.root, stem + extension)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(sorted(self._files.items())).encode("utf-8", "surrogateescape")).hexdigest()


class PicturedSource(IndexedSource):
    """The samples of a source of files, with masks and other pictures from folders."""

    def __init__(self, source: IndexedSource, folders: Mapping[str, PictureFolder], ignore: int | None) -> None:
        self._source, self._folders = source, dict(folders)
        self._describe_as(source)
        self.batch = source.batch
        self.is_remote = self.is_remote or any(folder.is_remote for folder in self._folders.values())
        for name in self._folders:
            if name in source.fields:
                raise ArgumentError(f"masks: {source.description} has a field {name!r}: give the mask another name")
        self._pictures = {name: self._spec(folder, ignore) for name, folder in self._folders.items()}

    def _spec(self, folder: PictureFolder, ignore: int | None) -> FieldSpec:
        items = [folder.item(name) for name in self._source.take(spread(self.count)).names]
        return spec_of(items, folder.role, ignore)

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return self._source.fields

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return {**self._source.pictures, **self._pictures}

    @property
    def count(self) -> int:
        return self._source.count

    def take(self, indices: Indices) -> SourceBatch:
        batch = self._source.take(indices)
        for name, folder in self._folders.items():
            batch.pictures[name] = [folder.item(image) for image in batch.names]
        return batch

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        found = self._source.paths(indices)
        folders = [folder for folder in self._folders.values() if not folder.is_remote]
        pictures = ((name, folder.path(name)) for name, _ in found for folder in folders)
        return [*found, *((name, path) for name, path in pictures if path is not None)]

    def files_state(self) -> str:
        states = [folder.state for folder in self._folders.values() if folder.is_remote]
        if not states:
            return super().files_state()
        told = [self._source.files_state(), super().files_state(), *states]
        return hashlib.sha256(repr(told).encode()).hexdigest()

    def fingerprint(self) -> str | None:
        inner = self._source.fingerprint()
        if inner is None:
            return None
        told = [(name, folder.fingerprint()) for name, folder in self._folders.items()]
        return hashlib.sha256(repr((inner, told)).encode()).hexdigest()


def _mode(item: Item) -> str | None:
    """Pillow's mode of a file; None for one that can't be read, which fails when it is packed."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(read_bytes(item))) as image:
            return str(image.mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _is_wide(item: Item) -> bool:
    """Whether a mask has numbers of more than 8 bits."""
    mode = _mode(item) or ""
    return mode == "I" or mode.startswith("I;")


def spec_of(items: Iterable[Item], role: str, ignore: int | None = None) -> FieldSpec:
    """The field of these samples' masks, or other pictures, which are like all others. ArgumentError for arrays of a
    dtype that a store has not."""
    fetched = fetch(items)
    return _mask_spec(fetched, ignore) if role == MASK else _picture_spec(fetched)


def _picture_spec(items: Iterable[Item]) -> FieldSpec:
    looked_at = list(items)
    found = next((values for values in map(_values, looked_at) if values is not None), None)
    if found is None:
        failed = next((item.message for item in looked_at if isinstance(item, FailedItem)), "they are no images")
        raise PackError(f"pictures: none of the {len(looked_at)} that were looked at can be had; the first: {failed}")
    return picture_field(found)


def picture_field(found: ValueSpec) -> FieldSpec:
    if found.dtype.name not in IMAGE_DTYPES:
        raise ArgumentError(f"pictures: expected {', '.join(IMAGE_DTYPES)}, found {found}")
    return FieldSpec(found.dtype.newbyteorder("<"), (found.channels, 0, 0), PICTURE)


def _values(item: Item) -> ValueSpec | None:
    """None where it can't be told: such a picture fails when it is packed."""
    if isinstance(item, FailedItem):
        return None
    if isinstance(item, np.ndarray):
        dtype = np.dtype(np.uint16) if item.dtype == np.int32 else item.dtype  # how Pillow opens 16 bits
        return ValueSpec(dtype.newbyteorder("="), item.shape[2])
    mode = _mode(item)
    if mode is None:
        return None
    if mode == "F":
        return ValueSpec(np.dtype(np.float32), 1)
    if mode == "I" or mode.startswith("I;"):
        return ValueSpec(np.dtype(np.uint16), 1)
    return ValueSpec(np.dtype(np.uint8), 1 if mode in ("1", "L") else 3)


def _mask_spec(items: Iterable[Item], ignore: int | None) -> FieldSpec:
    """The dtype is the smallest that has the numbers of all these masks; others must fit it too."""
    dtype = np.dtype(MASK_DTYPES[0])
    for item in items:
        if isinstance(item, np.ndarray) and item.dtype.kind in "biu":
            found = mask_array("mask", item[np.newaxis], 1).dtype
        elif not isinstance(item, (np.ndarray, FailedItem)) and _is_wide(item):
            found = np.dtype(MASK_DTYPES[1])
        else:
            continue
        dtype = max(dtype, found, key=lambda one: one.itemsize)
    return FieldSpec(dtype.newbyteorder("<"), role=MASK, ignore=checked_ignore(ignore, dtype))


def mask_item(mask: Any, where: str) -> Item:
    """A PIL image, an array or tensor (H, W) or (1, H, W), a path or encoded bytes as an item. A palette gives its
    indices."""
    if mask is None:
        return FailedItem("missing", f"{where}: expected a mask, found None")
    if isinstance(mask, (bytes, str)):
        return mask
    if isinstance(mask, os.PathLike):
        return str(mask)
    numbers = numpy_of(mask) if hasattr(mask, "detach") else np.asarray(mask)
    if numbers.ndim == 3 and 1 in (numbers.shape[0], numbers.shape[2]):
        numbers = numbers.squeeze(0 if numbers.shape[0] == 1 else 2)
    if numbers.ndim != 2 or numbers.dtype.kind not in "biu":
        words = f"{where}: expected a mask of integers (H, W), found {numbers.dtype} of shape {numbers.shape}"
        return FailedItem("unsupported", words)
    return numbers.astype(np.uint8) if numbers.dtype == bool else numbers


def with_pictures(
    source: Any, masks: Where | Mapping[str, Where], pictures: Mapping[str, Where] | None, ignore: int | None
) -> Any:
    """The source with masks and other pictures from folders, if there are any."""
    named = beside(masks, pictures)
    if masks is None and ignore is not None:
        raise ArgumentError("ignore: it is a number of masks: pass masks= too")
    if not named:
        return source
    if not isinstance(source, IndexedSource) or source.root is None:
        raise ArgumentError(
            f"masks: folders of masks go with a folder of images, found {source.description}: see the masks= of "
            "largeds_native.sources.arrays, table and dataset"
        )
    return PicturedSource(source, {name: PictureFolder(one.where, one.role) for name, one in named.items()}, ignore)
