"""What `largeds train` does: a store, a torchvision model, a Trainer. Copy it and change what you like."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import largeds_native as lds
from largeds_native.errors import ArgumentError, LargedsError

if TYPE_CHECKING:
    from largeds_native.store import Store


@dataclass(frozen=True)
class Options:
    """As in `largeds train --help`."""

    store: Path
    model: str
    epochs: int
    batch_size: int
    accumulate: int
    micro_batch: int | str | None
    lr: float
    weight_decay: float
    precision: str
    augment: bool
    val: Path | None
    val_split: float
    checkpoint_dir: Path | None
    resume: bool
    device: str | None
    seed: int
    threads: int | None
    progress: bool


def run(options: Options) -> dict[str, Any]:
    """Train, and tell what came of it: plain data."""
    device = chosen_device(options.device)
    with ExitStack() as stack:
        stack.enter_context(_torch_threads(options.threads))
        stack.enter_context(torch.random.fork_rng())
        store = stack.enter_context(lds.open(options.store))
        classes = number_of_classes(store)
        torch.manual_seed(options.seed)
        model = build(options.model, classes, store).to(device)
        train_loader, val_loader = loaders(store, options, device, stack)
        trainer = make_trainer(model, options, steps=options.epochs * -(-len(train_loader) // options.accumulate))
        try:
            history = trainer.fit(train_loader, options.epochs, val_loader, "auto" if options.resume else None)
        except torch.OutOfMemoryError as error:
            raise LargedsError(f"{error}; try a smaller --batch-size, or --micro-batch auto") from None
        return {
            "model": options.model,
            "parameters": sum(p.numel() for p in model.parameters()),
            "classes": classes,
            "images": train_loader.plan.length,
            "held_out": 0 if val_loader is None else val_loader.plan.length,
            "steps": trainer.step,
            "micro_batch": trainer.accumulator.micro_batch,
            "history": history,
            "checkpoints": options.checkpoint_dir and str(options.checkpoint_dir),
        }


def chosen_device(name: str | None) -> torch.device:
    """The one asked for, or CUDA where there is one."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ArgumentError(f"--device: expected cpu, or cuda where torch finds a CUDA device, found {name!r}")
    return device


def make_trainer(model: nn.Module, options: Options, steps: int) -> lds.Trainer:
    """AdamW, and a learning rate that falls along half a cosine over all steps."""
    optimizer = torch.optim.AdamW(model.parameters(), options.lr, weight_decay=options.weight_decay)
    # a function of the step: resumed with more --epochs, it is that of the longer run
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * min(step / steps, 1))) / 2
    )
    return lds.Trainer(
        model,
        optimizer,
        ClassLoss(),
        accumulate=options.accumulate,
        micro_batch=options.micro_batch,
        precision=options.precision,
        scheduler=cosine,
        scheduler_by="step",
        checkpoint_dir=options.checkpoint_dir,
        monitor="val_loss" if options.val or options.val_split else "train_loss",
        metrics={"accuracy": accuracy},
        progress=options.progress,
    )


def loaders(
    store: Store, options: Options, device: torch.device, stack: ExitStack
) -> tuple[lds.Loader, lds.Loader | None]:
    """Training in random order, augmented; validation in the store's order, as it is."""
    held_out = np.empty(0, np.int64)
    chosen = np.arange(len(store))
    if options.val is None and options.val_split:
        drawn = np.random.default_rng(options.seed).permutation(len(store))
        count = round(len(store) * options.val_split)
        if not 0 < count < len(store):
            raise ArgumentError(f"--val-split {options.val_split} of {len(store)} images is {count}: nothing is left")
        held_out, chosen = np.sort(drawn[:count]), np.sort(drawn[count:])
    words: dict[str, Any] = {"threads": options.threads, "device": device} | normalised(store)
    train_loader = lds.Loader(
        store,
        options.batch_size,
        shuffle=True,
        seed=options.seed,
        indices=chosen,
        augment=shift_and_flip(store) if options.augment else None,
        # one image alone has no variance for BatchNorm to divide by
        drop_last=len(chosen) > options.batch_size and len(chosen) % options.batch_size == 1,
        **words,
    )
    stack.callback(train_loader.close)
    val_store, subset = store, held_out
    if options.val is not None:
        val_store = stack.enter_context(lds.open(options.val))
        for name in ("shape", "layout", "classes"):
            if getattr(val_store, name) != getattr(store, name):
                expected, found = getattr(store, name), getattr(val_store, name)
                raise ArgumentError(f"{options.val}: expected the {name} of {options.store}, {expected}, found {found}")
        subset = np.arange(len(val_store))
    if not len(subset):
        return train_loader, None
    val_loader = lds.Loader(val_store, options.batch_size, indices=subset, **words)
    stack.callback(val_loader.close)
    return train_loader, val_loader


def normalised(store: Store) -> dict[str, Any]:
    """The loader's mean and std, where the store knows them and its images are not normalised already."""
    if store.statistics is None or store.dtype != np.uint8:
        return {}
    mean, std = store.statistics
    return {"mean": mean, "std": [s or 1.0 for s in std]}  # a channel that is one value everywhere stays 0


def shift_and_flip(store: Store) -> lds.Augment:
    height, width = store.image_size
    return lds.Augment(random_crop=(height, width), padding=max(height, width) // 8, flip=0.5)


def number_of_classes(store: Store) -> int:
    """Of the store's names, or else one more than the largest label."""
    if "label" not in store.fields:
        raise ArgumentError(f"{store.path} has no field label: there is nothing to learn")
    labels = store["label"]
    if labels.dtype.kind not in "biu" or len(labels.shape) != 1:
        raise ArgumentError(
            f"{store.path}: expected one class number each image in label, found {labels.dtype} of shape {labels.shape}"
        )
    values = np.asarray(labels[:])
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, -1)
    count = len(store.classes) or high + 1
    if low < 0 or high >= count or not len(values):
        raise ArgumentError(f"{store.path}: expected labels from 0 to {count - 1}, found {low} to {high}")
    return count


def build(name: str, classes: int, store: Store) -> nn.Module:
    """The torchvision classifier of this name, with weights drawn anew, tried on an image of the store's shape."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 4) or known[:4]
        raise ArgumentError(f"--model: torchvision has no classifier {name!r}; did you mean {', '.join(near)}?")
    height, width = store.image_size
    words: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        words = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        words = {"image_size": height}
    try:
        model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **words)
        if store.channels == 1:
            model = nn.Sequential(GreyToColour(), model)
        with torch.no_grad():
            model.eval()(torch.zeros(1, store.channels, height, width))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ArgumentError(f"{name} does not take images of {store.channels} x {height} x {width}: {reason}") from None
    return model


class GreyToColour(nn.Module):
    """Torchvision's models begin with three channels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


class ClassLoss(nn.CrossEntropyLoss):
    """Labels of any integer type."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().forward(outputs, targets.long())


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).double().mean()


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
