"""Checks of the arguments of Trainer and fit, before the first step. Each error says what to give instead."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from torch import nn
from torch.utils.data import Dataset, IterableDataset

from largeds_native.errors import ArgumentError
from largeds_native.store import Store
from largeds_native.trainer.callbacks import Callback


def check_parts(optimizer: Any, scheduler: Any, loss: Any, weight: Any, callbacks: Any) -> None:
    """ArgumentError unless a Trainer can work with these."""
    if not hasattr(optimizer, "param_groups"):
        raise ArgumentError(f"expected one optimizer of torch.optim, found {_found(optimizer)}")
    if scheduler is not None and not (hasattr(scheduler, "step") and hasattr(scheduler, "state_dict")):
        advice = ': give dict["scheduler"], and scheduler_by="step" or "epoch"' if isinstance(scheduler, dict) else ""
        raise ArgumentError(f"expected one learning rate scheduler, found {_found(scheduler)}{advice}")
    groups = getattr(getattr(scheduler, "optimizer", None), "param_groups", None)
    if groups is not None and not any(group is own for group in groups for own in optimizer.param_groups):
        raise ArgumentError(
            "the scheduler was made for another optimizer: it would not change this one's learning rate"
        )
    if isinstance(loss, type):
        raise ArgumentError(f"expected a loss function, found the class {loss.__name__}: give {loss.__name__}()")
    if not callable(loss):
        raise ArgumentError(f"expected a loss function of (outputs, targets), found {_found(loss)}")
    if weight is not None and not callable(weight):
        raise ArgumentError(f"expected weight as a function of (inputs, targets), found {_found(weight)}")
    for callback in callbacks if isinstance(callbacks, Sequence) else [None]:
        if not isinstance(callback, Callback):
            wrong = callback if isinstance(callbacks, Sequence) else callbacks
            raise ArgumentError(f"expected callbacks as a list of Callback objects, found {_found(wrong)}")


def _found(value: Any) -> str:
    """What it is, and for a list how to go on."""
    if isinstance(value, (list, tuple)):
        many = f"a {type(value).__name__} of {len(value)}"
        return f"{many}: give its element" if len(value) == 1 else f"{many}: a Trainer works with one"
    return f"the class {value.__name__}: give an object of it" if isinstance(value, type) else type(value).__name__


def check_loader(name: str, loader: Any) -> None:
    """ArgumentError for what is not a loader of batches, with how to make one of it."""
    found = type(loader).__name__
    if isinstance(loader, (str, os.PathLike)):
        advice = f"found the path {os.fspath(loader)!r}: give lds.Loader(lds.open(path), batch_size)"
    elif isinstance(loader, Store):
        advice = "found a Store, which gives single samples: give lds.Loader(store, batch_size)"
    elif isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        advice = f"found a {found}, which gives single samples: give torch.utils.data.DataLoader(dataset, batch_size)"
    elif isinstance(loader, nn.Module):
        advice = f"found the module {found}: the model is given to Trainer, and fit gets (train_loader, epochs)"
    elif not hasattr(loader, "__iter__") and not hasattr(loader, "__getitem__"):
        advice = f"found {found}"
    else:
        return
    raise ArgumentError(f"{name}: expected a loader of batches (inputs, targets), {advice}")


def check_epochs(epochs: Any) -> None:
    """ArgumentError unless this is a number of epochs."""
    if not hasattr(epochs, "__index__"):
        found = type(epochs).__name__
        raise ArgumentError(
            f"expected epochs to be a whole number, found {found}: fit(train_loader, epochs, val_loader)"
        )
    if epochs < 0:
        raise ArgumentError(f"expected epochs of at least 0, found {epochs}")


def check_classes(train_loader: Any, val_loader: Any) -> None:
    """ArgumentError where both loaders' stores or datasets name their classes, and the names differ: a class number
    would mean something else in validation."""
    train, val = _classes(train_loader), _classes(val_loader)
    if not train or not val or classes_agree(train, val):
        return
    only = {"training": [c for c in train if c not in val], "validation": [c for c in val if c not in train]}
    differing = "; ".join(f"only in {where}: {_some(names)}" for where, names in only.items() if names)
    if not differing:
        number = next(i for i, pair in enumerate(zip(train, val, strict=False)) if pair[0] != pair[1])
        differing = f"class {number} is {train[number]!r} in training and {val[number]!r} in validation"
    raise ArgumentError(
        f"the classes of the validation data are not those of the training data: {differing}. A class number must "
        "mean the same in both: make both with the same class names"
    )


def classes_agree(train: Sequence[Any], val: Sequence[Any]) -> bool:
    """Whether a class number means the same in both. Where classes have only numbers ("0", "1", ...), the validation
    data may lack the highest ones."""
    numbers = list(map(str, range(len(train))))
    return list(train) == list(val) or (list(train) == numbers and list(val) == numbers[: len(val)])


def _classes(loader: Any) -> list[Any]:
    source = getattr(loader, "store", None) or getattr(loader, "dataset", None)
    while source is not None and not hasattr(source, "classes"):
        source = getattr(source, "dataset", None)  # of a Subset
    classes = getattr(source, "classes", None)
    return list(classes) if isinstance(classes, (list, tuple)) else []


def _some(names: list[Any]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_monitored(who: str, name: str, names: Collection[str]) -> None:
    """ArgumentError unless the number that `who` watches is among an epoch's numbers."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    if name.startswith("val_") and not any(known.startswith("val_") for known in names):
        advice = ": numbers of a validation need fit(..., val_loader=...)"
    else:
        advice = f": did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"{who}: no {name!r} among {sorted(names)}{advice}")


def may_add_numbers(callbacks: Iterable[Callback]) -> bool:
    """Whether a callback of the user's may add numbers to an epoch's, of which nobody knows before its end."""
    package = __name__.partition(".")[0]
    return any(type(callback).on_epoch_end.__module__.partition(".")[0] != package for callback in callbacks)
