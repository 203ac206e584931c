"""The torchvision classifier that `largeds train`, `doctor` and `bench` train on a store, with loss and accuracy."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from largeds_native.store import Store


def choose_device(name: str | None) -> torch.device:
    """The device of this name; by default CUDA if available, else the CPU."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ArgumentError(f"--device: expected cpu, or cuda where torch finds a CUDA device, found {name!r}")
    return device


def normalization(store: Store) -> dict[str, Any]:
    """The arguments mean and std of a Loader, if the images of the store are uint8."""
    if store.dtype != np.uint8:
        return {}
    mean, std = store.statistics
    return {"mean": mean, "std": [s or 1.0 for s in std]}  # a constant channel has std 0, and becomes 0


def input_size(store: Store, largest: tuple[int, int] = (224, 224)) -> tuple[int, int]:
    """(height, width) of a model's images: those of the store; of a JPEG store, `largest`, or less where the shorter
    side of its images, their median, is less."""
    if store.metadata.sizes is None:
        return store.image_size
    shorter = _shorter_side(store)
    return min(largest[0], shorter), min(largest[1], shorter)


def _shorter_side(store: Store) -> int:
    """The median of the shorter sides of a JPEG store's images, of at most 10,000 rows, evenly spaced."""
    rows = np.unique(np.linspace(0, max(len(store) - 1, 0), min(len(store), 10_000)).astype(np.int64))
    return int(np.median(np.asarray(store.sizes[rows]).min(1))) if len(rows) else 1


def training_augment(store: Store, size: tuple[int, int]) -> Augment:
    """Random augmentation to images of `size`: resized crops of JPEG rows, small shifts of raw ones; and flips."""
    if store.metadata.sizes is None:
        return shift_and_flip(store)
    return Augment(resized_crop=size, flip=0.5)


def validation_augment(store: Store, size: tuple[int, int]) -> Augment | None:
    """Whole images, resized to 256 / 224 of `size` but not enlarged, and a centre crop; None for raw rows."""
    if store.metadata.sizes is None:
        return None
    resize = min(round(max(size) * 256 / 224), _shorter_side(store))
    return Augment(resize=max(resize, *size), center_crop=size)


def shift_and_flip(store: Store) -> Augment:
    """Shifts by up to an eighth of the longer side, and horizontal flips."""
    height, width = store.image_size
    return Augment(random_crop=(height, width), padding=max(height, width) // 8, flip=0.5)


def number_of_classes(store: Store) -> int:
    """The number of the store's class names; without names, one more than the largest label."""
    if "label" not in store.fields:
        raise ArgumentError(f"{store.path} has no field label: it can't be used for training")
    labels = store["label"]
    if labels.dtype.kind not in "biu" or len(labels.shape) != 1:
        raise ArgumentError(
            f"{store.path}: expected one class number per image in label, found {labels.dtype} of shape {labels.shape}"
        )
    values = np.asarray(labels[:])
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, -1)
    count = len(store.classes) or high + 1
    if low < 0 or high >= count or not len(values):
        raise ArgumentError(f"{store.path}: expected labels from 0 to {count - 1}, found {low} to {high}")
    return count


def build_classifier(name: str, classes: int, store: Store, size: tuple[int, int] | None = None) -> nn.Module:
    """The torchvision classifier of this name, with random weights, tested on an image of `size`, by default that of
    `input_size`."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 4) or known[:4]
        raise ArgumentError(f"--model: torchvision has no classifier {name!r}; did you mean {', '.join(near)}?")
    height, width = size or input_size(store)
    kwargs: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        kwargs = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        kwargs = {"image_size": height}
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **kwargs)
        if store.channels == 1:
            model = nn.Sequential(GreyToColour(), model)
        with torch.no_grad():
            model.eval()(torch.zeros(1, store.channels, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ArgumentError(f"{name} does not take images of {store.channels} x {height} x {width}: {reason}") from None
    return model


class GreyToColour(nn.Module):
    """Repeats the single channel, as torchvision's models need three."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


class ClassLoss(nn.CrossEntropyLoss):
    """Cross entropy for labels of any integer type."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().forward(outputs, targets.long())


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).double().mean()
