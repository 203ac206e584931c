"""Implements `largeds train`: a store, a torchvision model, a Trainer. Copy this file and change what you like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from largeds_native.cli.stores import open_place
from largeds_native.errors import ArgumentError, LargedsError
from largeds_native.loading import Loader
from largeds_native.profile.classifier import (
    ClassLoss,
    accuracy,
    build_classifier,
    choose_device,
    input_size,
    normalization,
    number_of_classes,
    training_augment,
    validation_augment,
)
from largeds_native.trainer import Trainer
from largeds_native.trainer.arguments import classes_agree

if TYPE_CHECKING:
    from largeds_native.store import Store


@dataclass(frozen=True)
class TrainingConfig:
    """The options of `largeds train`; see its --help."""

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
    cache: Path | None
    cache_bytes: str | None
    val_split: float
    checkpoint_dir: Path | None
    checkpoint_every: int | None
    resume: bool
    stop_on_signal: bool
    device: str | None
    seed: int
    threads: int | None
    progress: bool


def train_classifier(config: TrainingConfig) -> dict[str, Any]:
    """Trains, and returns the result as plain data."""
    device = choose_device(config.device)
    with ExitStack() as stack:
        stack.enter_context(_torch_threads(config.threads))
        stack.enter_context(torch.random.fork_rng())
        store = stack.enter_context(open_place(config.store, config.cache, config.cache_bytes))
        classes = number_of_classes(store)
        torch.manual_seed(config.seed)
        model = build_classifier(config.model, classes, store).to(device)
        train_loader, val_loader = loaders(store, config, device, stack)
        trainer = make_trainer(model, config, steps=config.epochs * -(-len(train_loader) // config.accumulate))
        try:
            history = trainer.fit(train_loader, config.epochs, val_loader, "auto" if config.resume else None)
        except torch.OutOfMemoryError as error:
            raise LargedsError(f"{error}; try a smaller --batch-size, or --micro-batch auto") from None
        return {
            "model": config.model,
            "parameters": sum(p.numel() for p in model.parameters()),
            "classes": classes,
            "images": train_loader.plan.length,
            "held_out": 0 if val_loader is None else val_loader.plan.length,
            "steps": trainer.step,
            "micro_batch": trainer.accumulator.micro_batch,
            "history": history,
            "checkpoints": config.checkpoint_dir and str(config.checkpoint_dir),
        }


def make_trainer(model: nn.Module, config: TrainingConfig, steps: int) -> Trainer:
    """A Trainer with AdamW and a learning rate that falls along half a cosine over all steps."""
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    # a function of the step alone: after a resume with more --epochs, it follows the longer schedule
    cosine = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 + math.cos(math.pi * min(step / steps, 1))) / 2
    )
    return Trainer(
        model,
        optimizer,
        ClassLoss(),
        accumulate=config.accumulate,
        micro_batch=config.micro_batch,
        precision=config.precision,
        scheduler=cosine,
        scheduler_by="step",
        checkpoint_dir=config.checkpoint_dir,
        checkpoint_every=config.checkpoint_every,
        monitor="val_loss" if config.val or config.val_split else "train_loss",
        metrics={"accuracy": accuracy},
        progress=config.progress,
        stop_on_signal=config.stop_on_signal,
    )


def loaders(
    store: Store, config: TrainingConfig, device: torch.device, stack: ExitStack
) -> tuple[Loader, Loader | None]:
    """Loaders for training (shuffled and augmented) and for validation (in the store's order, not augmented). Images of
    a JPEG store are cropped to one size in both."""
    held_out = np.empty(0, np.int64)
    chosen = np.arange(len(store))
    if config.val is None and config.val_split:
        drawn = np.random.default_rng(config.seed).permutation(len(store))
        count = round(len(store) * config.val_split)
        if not 0 < count < len(store):
            raise ArgumentError(
                f"--val-split {config.val_split} of {len(store)} images is {count}, which leaves no images for "
                "training or validation"
            )
        held_out, chosen = np.sort(drawn[:count]), np.sort(drawn[count:])
    kwargs: dict[str, Any] = {"threads": config.threads, "device": device} | normalization(store)
    size = input_size(store)
    train_loader = Loader(
        store,
        config.batch_size,
        shuffle=True,
        seed=config.seed,
        indices=chosen,
        augment=training_augment(store, size) if config.augment else validation_augment(store, size),
        # BatchNorm can't train on a batch of one image
        drop_last=len(chosen) > config.batch_size and len(chosen) % config.batch_size == 1,
        **kwargs,
    )
    stack.callback(train_loader.close)
    val_store, subset = store, held_out
    if config.val is not None:
        val_store = stack.enter_context(open_place(config.val, config.cache, config.cache_bytes))
        _check_validation(val_store, store, config, size)
        subset = np.arange(len(val_store))
    if not len(subset):
        return train_loader, None
    cropped = validation_augment(val_store, size)
    val_loader = Loader(val_store, config.batch_size, indices=subset, augment=cropped, **kwargs)
    stack.callback(val_loader.close)
    return train_loader, val_loader


def _check_validation(val_store: Store, store: Store, config: TrainingConfig, size: tuple[int, int]) -> None:
    """Raises ArgumentError unless the images and classes of the stores go together."""
    expected: dict[str, Any] = {"shape": store.shape, "layout": store.layout, "classes": store.classes}
    found: dict[str, Any] = {name: getattr(val_store, name) for name in expected}
    if "jpeg" in (store.metadata.codec, val_store.metadata.codec):  # the loader crops JPEG rows to `size`
        cropped = size if val_store.metadata.codec == "jpeg" else val_store.image_size
        expected |= {"shape": (store.channels, *size), "layout": "CHW"}
        found |= {"shape": (val_store.channels, *cropped), "layout": "CHW"}
    for name, value in expected.items():
        if value != found[name] and not (name == "classes" and found[name] and classes_agree(value, found[name])):
            raise ArgumentError(f"{config.val}: expected the {name} of {config.store}, {value}, found {found[name]}")


@contextmanager
def _torch_threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
