"""Images from Python objects: torch Datasets, Hugging Face datasets, and iterables of (bytes, label)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from largeds_native._internal.arrays import MASK, FieldSpec
from largeds_native._internal.urls import is_url
from largeds_native.errors import ArgumentError, LargedsError, PackError
from largeds_native.sources.base import LABEL, FailedItem, IndexedSource, Indices, Item, Source, SourceBatch
from largeds_native.sources.classes import with_classes
from largeds_native.sources.pictures import beside, spec_of
from largeds_native.sources.samples import Sample, bytes_of, item_of, kind_of, label_of, parts_of
from largeds_native.sources.values import value_spec

BATCH_BYTES = 64 << 20
PROBES = 1000  # samples that are asked for until one is there


def dataset(
    samples: Any, *, classes: Any = None, masks: Any = None, pictures: Any = None, ignore: int | None = None
) -> Source:
    """A source from a map-style torch Dataset, or any object with `len` and `[i]`, of (image, label) pairs or of
    images. An image is a PIL image, an array (H, W) or (H, W, C), a tensor (C, H, W), or the path or the bytes of a
    file. Floats in [0, 1] with 1 or 3 channels, as from torchvision's ToTensor, become 8 bits, unless the pack's dtype
    is float; up to 32 channels of uint8, uint16, int16, float16 or float32 are kept as they are. One thread requests
    the items, in order. With `classes`, names or a store, labels are numbered by these.

    A sample may also be (image, mask), (image, mask, label), or a dict with an "image", perhaps a "label", and a
    "mask", or masks under the keys `masks` (one, or several). A mask is a PIL image (of a palette, its indices), an
    array or tensor (H, W) of integers, or a file. `ignore` is the number of its pixels outside of the image, which a
    random crop with padding shows. `pictures` are keys of other pictures in the dicts (one, or several), such as depth,
    each what an image may be; floats are kept as they are.

    If `samples[i]` raises an exception, or its image is None, sample i is a failed sample of the pack.
    """
    names, roles = _class_names(samples), _roles(masks, pictures)
    if _is_plain_image_folder(samples):
        top = os.path.abspath(samples.root)
        pairs = [(os.path.relpath(path, samples.root), label) for path, label in samples.samples]
        source = DatasetSource(
            samples.samples.__getitem__, len(samples), f"torchvision ImageFolder {top}", names, roles, ignore
        )
        source.identify(repr(pairs), [path for path, _ in samples.samples])
        source.walked = top
        return with_classes(source, classes)
    what = f"dataset {type(samples).__name__}"
    source = DatasetSource(samples.__getitem__, len(samples), what, names, roles, ignore)
    return with_classes(source, classes)


def _roles(masks: Any, pictures: Any) -> dict[str, str]:
    """The roles of the pictures in a sample, by their keys."""
    keys = [{} if one is None else dict.fromkeys([one] if isinstance(one, str) else one) for one in (masks, pictures)]
    return {name: one.role for name, one in beside(keys[0] or None, keys[1]).items()}


def _class_names(samples: Any) -> Any:
    """The names of the labels' numbers; those of the whole dataset under torch's Subset, which keeps its labels."""
    while not hasattr(samples, "classes") and _is_subset(samples):
        samples = samples.dataset
    return getattr(samples, "classes", None)


def _is_subset(samples: Any) -> bool:
    kinds = [(kind.__module__, kind.__name__) for kind in type(samples).__mro__]
    return ("torch.utils.data.dataset", "Subset") in kinds


def _is_plain_image_folder(samples: Any) -> bool:
    """Whether this is torchvision's ImageFolder without transforms, whose files the core decodes to equal pixels."""
    kind = type(samples)
    return (
        (kind.__module__, kind.__name__) == ("torchvision.datasets.folder", "ImageFolder")
        and samples.transforms is None
        and samples.loader.__name__ == "default_loader"
    )


def encoded(samples: Iterable[tuple[bytes, int]], *, classes: Any = None) -> Source:
    """A source from an iterable of (bytes of an image file, label). `classes`: names of the labels' numbers, or a store
    that has them. It can't tell whether its samples are the same as before: to resume, `pack` needs a `key`, and the
    iterable must yield the same samples."""
    return with_classes(EncodedSource(samples), classes)


def hugging_face(
    data: Any,
    *,
    image: str = "image",
    label: str = "label",
    classes: Any = None,
    masks: str | Mapping[str, str] | None = None,
    pictures: Mapping[str, str] | None = None,
    ignore: int | None = None,
) -> Source:
    """A source from a Hugging Face `datasets.Dataset`, `data`, with an image column and optionally a label column. The
    stored image files are packed directly, without decoding them in Python. With `classes`, names or a store, labels
    are numbered by these. `masks` is the image column with the masks, which become the field "mask", or a mapping from
    names of fields to columns; `ignore` is the number of their pixels outside of the image, which a random crop with
    padding shows. `pictures` maps names of fields to the columns of other pictures, such as depth. Other columns are
    left out; `store.report.notes` lists them.

    Raises ArgumentError for a streaming dataset, and if there is no column `image`.
    """
    from datasets import Image as ImageFeature

    if not hasattr(data, "__len__"):
        raise ArgumentError(
            f"expected a datasets.Dataset, found the streaming {type(data).__name__}: pass an iterable of "
            "(bytes, label) instead"
        )
    further = beside(masks, pictures)
    columns = {name: one.where for name, one in further.items()}
    for name in (image, *columns.values()):
        if name not in data.features:
            raise ArgumentError(f"expected a column {name!r}, found {', '.join(data.features)}")
    identity = getattr(data, "_fingerprint", None)  # of its rows and of all that was done to them
    for name in (image, *columns.values()):
        data = data.cast_column(name, ImageFeature(decode=False))
    has_label = label in data.features
    names = getattr(data.features.get(label), "names", None)

    get = _HuggingFaceSamples(data, {"image": image, **columns}, label if has_label else None)
    roles = {name: one.role for name, one in further.items()}
    source = DatasetSource(get, len(data), "Hugging Face dataset", names, roles, ignore)
    if identity is not None:
        told = f"{identity} {image} {label}" + (f" {columns}" if columns else "")
        source.identify(told, *(_files_of(data, name) for name in (image, *columns.values())))
    if left_out := [name for name in data.features if name not in (image, label, *columns.values())]:
        source.notes = (f"columns left out: {', '.join(left_out)}",)
    return with_classes(source, classes)


@dataclass(frozen=True)
class _HuggingFaceSamples:
    """The samples of a Hugging Face dataset by index, as dicts: `columns` are those of their pictures."""

    data: Any
    columns: Mapping[str, str]
    label: str | None

    def __call__(self, i: int) -> Any:
        row = self.data[i]
        sample = {field: _encoded_of(row[name]) for field, name in self.columns.items()}
        return sample if self.label is None else {**sample, "label": row[self.label]}


def _encoded_of(cell: Any) -> Any:
    """Bytes or path of an image that is not decoded."""
    return None if cell is None else cell["bytes"] if cell["bytes"] is not None else cell["path"]


def _files_of(data: Any, image: str) -> list[str]:
    """The files of a Hugging Face dataset whose cells are paths; none where images lie inside of it, as its first image
    tells."""
    first = next((cell for cell in (data[i][image] for i in range(min(len(data), PROBES))) if cell is not None), None)
    if first is None or first["bytes"] is not None:
        return []
    return [cell["path"] or "" if cell is not None else "" for cell in data[image]]


class DatasetSource(IndexedSource):
    def __init__(
        self,
        get: Callable[[int], Any],
        count: int,
        description: str,
        classes: Any,
        roles: Mapping[str, str] | None = None,
        ignore: int | None = None,
    ) -> None:
        self._get, self._count = get, count
        self._roles = dict(roles or {})
        for name in ("image", "label"):
            if name in self._roles:
                raise ArgumentError(
                    f"{self._roles[name]}s: {name!r} is the sample's own: give the picture another name"
                )
        self._identity: str | None = None
        self._paths: list[Sequence[str]] = []
        self.description = description
        if isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes):
            self.classes = tuple(classes)
        first = self._look_at_first() if count else Sample(b"", None, {})
        self._labelled, size = first.label is not None, bytes_of(first.image)
        self.is_remote = any(map(is_url, (first.image, *first.pictures.values())))
        if isinstance(first.image, np.ndarray):
            self.values = value_spec(self.description, first.image.dtype, first.image.shape[2])
        self._pictures = {
            name: spec_of(items, self._roles.get(name, MASK), ignore)
            for name, items in self._first_pictures(first).items()
        }
        self.batch = max(1, min(1 << 12, BATCH_BYTES // max(1, size)))

    def _look_at_first(self) -> Sample:
        """The first sample that can be had: it tells whether samples have labels and pictures."""
        first = ""
        for index in range(min(self._count, PROBES)):
            try:
                sample = self._get(index)
            except MemoryError:
                raise
            except Exception as error:
                first = first or f"sample {index}: {type(error).__name__}: {error}"
                continue
            self._check_keys(sample, index)
            found = parts_of(sample, f"sample {index} of {self.description}", self._roles)
            if found.image is None:
                first = first or f"sample {index}: no image (None)"
                continue
            return replace(found, image=item_of(found.image, f"sample {index}"))
        raise PackError(
            f"{self.description}: none of its first {min(self._count, PROBES):,} samples can be had; {first}"
        )

    def _check_keys(self, sample: Any, index: int) -> None:
        """Raises ArgumentError for a sample that can't have the pictures that were asked for."""
        where = f"sample {index} of {self.description}"
        only_a_mask = list(self._roles.values()) == [MASK]
        for name, role in self._roles.items():
            if not isinstance(sample, dict) and not only_a_mask:
                raise ArgumentError(
                    f"{role}s: expected samples that are dicts with the key {name!r}, found {kind_of(sample)} in "
                    f"{where}"
                )
            if isinstance(sample, dict) and name not in sample:
                keys = ", ".join(map(str, sample))
                raise ArgumentError(f"{role}s: {where} has no key {name!r}, its keys are {keys:.200}")

    def _first_pictures(self, first: Sample) -> dict[str, list[Item]]:
        """Of each field, the first picture that can be had: it tells the dtype of all. PackError if there is none."""
        found = dict(first.pictures)
        for index in range(min(self._count, PROBES)):
            missing = [name for name, item in found.items() if isinstance(item, FailedItem)]
            if not missing:
                break
            pictures = self._sample(index, set(found)).pictures
            found.update({name: pictures[name] for name in missing if name in pictures})
        for name, item in found.items():
            if isinstance(item, FailedItem):
                raise PackError(f"{self.description}: none of its first samples has a {name!r}; {item.message}")
        return {name: [item] for name, item in found.items()}

    def identify(self, identity: str | None, *paths: Sequence[str]) -> None:
        """Says what changes when the samples do; and the files of all samples, of each picture that has one."""
        self._identity, self._paths = identity, [column for column in paths if column]

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {"label": LABEL} if self._labelled else {}

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._pictures

    @property
    def count(self) -> int:
        return self._count

    def take(self, indices: Indices) -> SourceBatch:
        samples = [self._sample(i, self._pictures) for i in indices.tolist()]
        fields = {"label": np.asarray([one.label or 0 for one in samples], np.int64)} if self._labelled else {}
        pictures = {name: [one.pictures.get(name, one.image) for one in samples] for name in self._pictures}
        return SourceBatch([one.image for one in samples], [f"#{i}" for i in indices.tolist()], fields, pictures)

    def _sample(self, index: int, pictures: Collection[str]) -> Sample:
        """With these pictures. Whatever the Dataset raises fails this sample alone."""
        try:
            found = parts_of(self._get(index), f"sample {index}", self._roles)
            if (found.label is not None) != self._labelled or sorted(found.pictures) != sorted(pictures):
                form = "(image, label)" if self._labelled else "an image without a label"
                form += f", with the pictures {', '.join(pictures)}" if pictures else ""
                raise ArgumentError(f"sample {index}: expected {form}, as the first samples are")
            return replace(found, image=item_of(found.image, f"sample {index}"))
        except MemoryError:
            raise
        except ArgumentError as error:
            return Sample(FailedItem("source", str(error), error), 0, {})
        except Exception as error:
            return Sample(FailedItem("source", f"the dataset raised {type(error).__name__}: {error}", error), 0, {})

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        return [(column[i],) * 2 for column in self._paths for i in indices.tolist()]

    def fingerprint(self) -> str | None:
        """None for a Dataset: what its `__getitem__` gives is known only when it is called for every sample."""
        if self._identity is None:
            return None
        return hashlib.sha256(
            repr((self._identity, self._count, self.classes)).encode("utf-8", "surrogateescape")
        ).hexdigest()


class EncodedSource(Source):
    description = "iterable of encoded images"

    def __init__(self, samples: Iterable[tuple[bytes, int]]) -> None:
        self._samples = samples
        self._iterator: Iterator[tuple[bytes, int]] | None = None
        self._position = 0

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {"label": LABEL}

    @property
    def count(self) -> None:
        return None

    def read(self, start: int, stop: int) -> Iterator[SourceBatch]:
        """Reads forward; starts a new iteration if `start` is before the current position."""
        self._skip_to(start)
        while self._position < stop:
            items: list[Item] = []
            labels: list[int] = []
            size, first = 0, self._position
            while self._position < stop and size < BATCH_BYTES:
                sample = self._next()
                if sample is None:
                    break
                items.append(sample[0])
                labels.append(sample[1])
                size += len(sample[0])
            if not items:
                return
            names = [f"#{first + i}" for i in range(len(items))]
            yield SourceBatch(items, names, {"label": np.asarray(labels, np.int64)})

    def _skip_to(self, start: int) -> None:
        if self._iterator is None or start < self._position:
            if self._iterator is not None and iter(self._samples) is self._samples:
                raise ArgumentError(f"{self.description} can be read only once: give a list or an object with __iter__")
            self._iterator, self._position = iter(self._samples), 0
        while self._position < start and self._next() is not None:
            pass

    def _next(self) -> tuple[bytes, int] | None:
        assert self._iterator is not None
        try:
            sample = next(self._iterator)
        except StopIteration:
            return None
        except (MemoryError, LargedsError):
            raise
        except Exception as error:
            raise PackError(
                f"sample {self._position} of the {self.description}: it raised {type(error).__name__}: {error}"
            ) from error
        try:
            data, label = sample
        except (TypeError, ValueError):
            raise ArgumentError(f"sample {self._position}: expected (bytes, label), found {kind_of(sample)}") from None
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ArgumentError(f"sample {self._position}: expected (bytes, label), found {type(data).__name__}")
        self._position += 1
        return bytes(data), label_of(label, f"sample {self._position - 1}")

    def fingerprint(self) -> None:
        return None
