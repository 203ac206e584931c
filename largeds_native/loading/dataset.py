"""A store as a torch Dataset, for DataLoader."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from largeds_native.errors import ArgumentError
from largeds_native.loading.collate import COLLATES_WHOLE, samples_of, values_of
from largeds_native.loading.fields import check_fields, check_pictures, field_names
from largeds_native.loading.names import keys_of
from largeds_native.loading.shared import BatchMemory
from largeds_native.loading.views import Views, ViewSchedule
from largeds_native.store import Store
from largeds_native.store.display import picture_of
from largeds_native.store.gather import BatchFormat, dataset_rows, shared_pool
from largeds_native.transform import Augment

IMAGES = ("tensor", "pil", "numpy")


class StoreDataset(Dataset[Any]):
    """Item i is (image, *fields), by default (image, label); with `names` it is a dict, and without fields the image.

    store: from `largeds_native.open` or `pack`.
    transform: a function of the image.
    target_transform: a function of the field, where there is one.
    transforms: a function of the whole sample, `transforms(image, *fields)`, that returns as many; instead of the
        other two, as in torchvision's datasets. torchvision's v2 transforms are such functions.
    fields: the names of the fields, in this order; None is ("label",) if the store has it, else no field.
    augment: an `Augment`, which also gives images of many sizes one size, or a list with one for each view: items are
        then ([view, view], *fields), and `transform` changes each view. Draws are torch's, as those of other datasets;
        pictures get the geometry of their images.
    image: "tensor" is (C, H, W) of the store's dtype; "pil" an image of Pillow, for torchvision's and timm's transforms
        of such; "numpy" an array (H, W, C), as Albumentations takes it. Masks come in the same kind, as (H, W).
    names: keys for samples as dicts, as {"image": "pixel_values", "label": "labels"} for Hugging Face's Trainer; fields
        without a key keep their name.

    Integers are ints; floats and vectors are tensors of the field's dtype. Of a JPEG store with images of many sizes,
    the transform must give them one size for batches, such as torchvision's RandomResizedCrop(224). `classes` and
    `targets` are those of torchvision's datasets. Where the store has several variants of an image, one is drawn with
    torch's random numbers. DataLoader asks for a whole batch at once (`__getitems__`): without a transform, tensors are
    gathered in one pass, in a worker directly into shared memory, which is reused when nobody holds the batch any more.
    Workers may be started by fork or by spawn.

    Raises ArgumentError for invalid arguments; RowIndexError for an index outside of -len .. len - 1, TypeError or
    ArgumentError for one that is not an integer.
    """

    def __init__(
        self,
        store: Store,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        transforms: Callable[..., Any] | None = None,
        *,
        fields: Sequence[str] | str | None = None,
        augment: Views = None,
        image: Literal["tensor", "pil", "numpy"] = "tensor",
        names: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(store, Store):
            raise ArgumentError(f"store: expected a Store, as largeds_native.open gives, found {type(store).__name__}")
        self.store = store
        self.transform, self.target_transform, self.transforms = transform, target_transform, transforms
        self.fields = field_names(store, fields)
        check_fields(store, self.fields)
        if image not in IMAGES:
            raise ArgumentError(f"image: expected one of {', '.join(map(repr, IMAGES))}, found {image!r}")
        if image == "pil" and (store.dtype != np.uint8 or store.channels not in (1, 3)):
            raise ArgumentError(
                f"image='pil': expected uint8 images of 1 or 3 channels, and those of {store.path} are {store.dtype} "
                f"of {store.channels}: take image='numpy'"
            )
        self.image = image
        if callable(augment):
            raise ArgumentError("augment: a Dataset does not know the epoch: expected an Augment or a list of them")
        schedule = ViewSchedule(augment)
        self._views, self._listed = None if augment is None else schedule.at(0), schedule.listed
        self._pictures = tuple(name for name in self.fields if name in store.metadata.pictures)
        check_pictures(store, self.fields, self._views or (Augment(),))
        self._keys = keys_of(names, self.fields)
        self._check_transforms()
        self._prepare()

    def _check_transforms(self) -> None:
        for name in ("transform", "target_transform", "transforms"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise ArgumentError(f"{name}: expected a function, found {function!r:.100}")
        if self.transforms is not None and (self.transform is not None or self.target_transform is not None):
            raise ArgumentError(
                "transforms: expected it alone, as it changes the whole sample, or transform and target_transform"
            )
        if self.target_transform is not None and len(self.fields) != 1:
            found = ", ".join(self.fields) or "none"
            raise ArgumentError(f"target_transform: expected one field, found {found}: pass transforms= for a sample")

    def _prepare(self) -> None:
        self._targets: list[Any] | None = self.__dict__.get("_own_targets")
        store = self.store
        # None: the images have many sizes, and are decoded one by one
        self._format: BatchFormat | None = None
        if self._views is not None or not store.metadata.varies:
            views, last = self._views or (Augment(),), self.image != "tensor"
            self._format = BatchFormat(store, variant="draw", channels_last=last, views=views, pictures=self._pictures)
        self._memory = BatchMemory()

    @property
    def classes(self) -> list[str]:
        """The class names, where label i is `classes[i]`. Empty if the store has no class names."""
        return list(self.store.classes)

    @property
    def targets(self) -> list[Any]:
        """The label of every item. Raises AttributeError if the store has no labels, so that `hasattr` is False."""
        if self._targets is None:
            if "label" not in self.store.fields:
                raise AttributeError(f"targets: {self.store.path} has no field 'label'")
            self._targets = np.asarray(self.store["label"][:]).tolist()
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
        changed = any((self.transform, self.target_transform, self.transforms))
        members = len(self.fields) or self._keys is not None
        plain = bool(members) and self.image == "tensor" and not self._listed and not self._pictures
        return self._items(indices, COLLATES_WHOLE and not changed and plain and self._format is not None)

    def _items(self, indices: Sequence[int], whole: bool) -> list[Any]:
        rows = dataset_rows(indices, len(self), self.store.path)
        if self._format is None:
            columns = [self._values(name, rows) for name in self.fields]
            return [self._sample(*members) for members in zip(self._decoded(rows), *columns, strict=True)]
        parts = self._parts(self._format, rows, whole)
        pictures = 1 + len(self._pictures)
        found = {
            name: self._per_view(parts[1 + i :: pictures], partial(self._pictures_of, name))
            for i, name in enumerate(self._pictures)
        }
        columns = [found[name] if name in found else self._values(name, rows) for name in self.fields]
        if whole:
            return samples_of(parts[0], columns, self._keys)
        images = self._per_view(parts[::pictures], self._images_of)
        return [self._sample(*members) for members in zip(images, *columns, strict=True)]

    def _per_view(self, parts: Sequence[Tensor], values: Callable[[Tensor], Sequence[Any]]) -> Sequence[Any]:
        """One value a sample; with a list of views, the list of its views."""
        views = [values(part) for part in parts]
        return list(map(list, zip(*views, strict=True))) if self._listed else views[0]

    def _sample(self, image: Any, *values: Any) -> Any:
        """The item of an image and the values of its fields: transformed, and with its keys."""
        members: tuple[Any, ...] = (image, *values)
        if self.transforms is not None:
            changed = self.transforms(*members)
            if values and (not isinstance(changed, (tuple, list)) or len(changed) != 1 + len(values)):
                found = len(changed) if isinstance(changed, (tuple, list)) else f"one {type(changed).__name__}"
                raise ArgumentError(f"transforms: expected {1 + len(values)} values, found {found}")
            members = tuple(changed) if values else (changed,)
        if self.transform is not None:
            members = ([self.transform(view) for view in image] if self._listed else self.transform(image), *values)
        if self.target_transform is not None:
            members = (members[0], self.target_transform(*values))
        if self._keys is not None:
            return dict(zip(self._keys, members, strict=True))
        return members if values else members[0]

    # ---- values ------------------------------------------------------------------------------------------------
    def _values(self, name: str, rows: NDArray[np.int64]) -> Sequence[Any]:
        """The values of a field, one a row."""
        values: Any = self.store.field(name)[rows]
        if name in self.store.metadata.pictures:
            return [self._as_picture(np.asarray(one)) for one in values]
        return values_of(np.asarray(values))

    def _as_picture(self, values: NDArray[Any]) -> Any:
        """A mask (H, W), or another picture (C, H, W): of numpy (H, W, C), as an image is."""
        if self.image == "tensor":
            return torch.from_numpy(np.array(values))
        values = np.array(values if values.ndim == 2 else values.transpose(1, 2, 0))
        return values if self.image == "numpy" else pil_picture(values)

    def _pictures_of(self, name: str, batch: Tensor) -> Sequence[Any]:
        values = batch.numpy()
        return list(map(self._as_picture, values[:, 0] if self.store.metadata.pictures[name].is_mask else values))

    def _images_of(self, batch: Tensor) -> Sequence[Any]:
        if self.image == "tensor":
            return batch.unbind(0)
        return [self._as_image(pixels) for pixels in batch.permute(0, 2, 3, 1).numpy()]

    def _as_image(self, pixels: NDArray[Any]) -> Any:
        """The pixels (H, W, C) as `image` says."""
        return pixels if self.image == "numpy" else picture_of(pixels, "HWC")

    def _parts(self, batches: BatchFormat, rows: NDArray[np.int64], whole: bool) -> list[Tensor]:
        """For each view, its images and then its pictures, (n, C, H, W)."""
        parts = []
        for channels, height, width in batches.image_shapes:
            if batches.channels_last:
                batch = self._memory.tensor((len(rows), height, width, channels), batches.dtype, whole)
                parts.append(batch.permute(0, 3, 1, 2))
            else:
                parts.append(self._memory.tensor((len(rows), channels, height, width), batches.dtype, whole))
            parts += [
                self._memory.tensor((len(rows), spec.values.channels, height, width), dtype, whole)
                for spec, dtype in zip(batches.pictures, batches.picture_dtypes, strict=True)
            ]
        draws = self.store.variants > 1 or self._views is not None
        seed = int(torch.randint(1 << 62, ())) if draws else 0
        with self.store.reading(rows):
            batches.gather.run(rows, seed, 0, parts, shared_pool(None))
        return parts

    def _decoded(self, rows: NDArray[np.int64]) -> Iterable[Any]:
        """Images of many sizes."""
        for row in rows:
            pixels = self.store.images[int(row)]
            if self.image != "tensor":
                yield self._as_image(pixels if self.store.layout == "HWC" else pixels.transpose(1, 2, 0).copy())
            else:
                image = torch.from_numpy(pixels)
                yield image if self.store.layout == "CHW" else image.permute(2, 0, 1).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        """Of a subclass too; what the core works with is made anew where it is unpickled."""
        made_anew = {"_format", "_memory", "_targets"}
        return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def pil_picture(values: NDArray[Any]) -> Any:
    """(H, W) or (H, W, C): in the modes "L", "RGB", "I;16", "I" and "F"; an array where Pillow has no such mode."""
    from PIL import Image

    values = np.ascontiguousarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    try:
        return Image.fromarray(values)
    except TypeError:
        return values
