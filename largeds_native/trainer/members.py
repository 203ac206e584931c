"""What a Loader's batches hold, beside what the model and the loss take, before a batch is made."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.loading import Loader
from largeds_native.loading.fetching import remote_parts
from largeds_native.trainer import batches, readback
from largeds_native.trainer.ranks import unwrap
from largeds_native.trainer.weights import Loss, is_torchs, of_class_numbers

ONE_TENSOR = (Tensor, "Tensor", "torch.Tensor")
MANY = 1 << 22  # labels that are compared at once


def check_members(name: str, loader: Any, model: nn.Module, loss: Loss) -> None:
    """ArgumentError for a Loader of several views where the model says that it takes one tensor, and of several fields,
    or of numbers of another dtype, where the loss is one of torch's."""
    if not isinstance(loader, Loader):
        return
    inputs, targets = batches.split_pair(loader.empty_batch())
    if isinstance(inputs, list) and _takes_one_tensor(unwrap(model)):
        raise ArgumentError(
            f"{name}: expected one tensor of images, as the model's forward takes, found views, as "
            f"{batches.list_in_words(inputs)}: give the Loader one Augment, or a model whose forward takes the list"
        )
    if not is_torchs(loss):
        return
    if not isinstance(targets, Tensor):
        found = f"a list of {len(targets)} masks" if len(loader.fields) == 1 else ", ".join(loader.fields)
        raise ArgumentError(
            f"{name}: expected one field, as torch's losses take one tensor of targets, found {found}: give the Loader "
            "fields=(one,), or a loss of (outputs, targets) that takes them all"
        )
    (field,) = loader.fields
    whole = (torch.int64,) if field in loader.store.metadata.pictures else (torch.int64, torch.uint8)
    if of_class_numbers(loss) and not targets.is_floating_point() and targets.dtype not in whole:
        raise ArgumentError(
            f"{name}: expected field {field!r} of torch.int64, as torch's losses of class numbers take, found "
            f"{targets.dtype}: give a loss as lambda outputs, targets: cross_entropy(outputs, targets.long())"
        )


def no_label_is(number: int, loader: Any) -> bool:
    """Whether the targets are labels of a local store, one for each image, on a device, and none of them is this
    number. It reads them all: 30 million take a tenth of a second. On the CPU it is not worth that, and not asked."""
    # a subclass may change the labels on their way
    if type(loader) is not Loader or loader.fields != ("label",) or remote_parts(loader.store):
        return False
    if not readback.defers(loader.device):
        return False
    labels = loader.store.field("label")
    if len(labels.shape) != 1 or labels.dtype.kind not in "iu":
        return False
    return not any((labels[i : i + MANY] == number).any() for i in range(0, len(labels), MANY))


def _takes_one_tensor(model: nn.Module) -> bool:
    """Whether its annotation says so; nn.Sequential has none, and gives its input to its first module."""
    while type(model) is nn.Sequential and len(model):
        model = model[0]
    try:
        parameters: Sequence[inspect.Parameter] = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # not a Python function
        return False
    return bool(parameters) and parameters[0].annotation in ONE_TENSOR
