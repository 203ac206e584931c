"""Batches and outputs with other structures than two tensors."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from largeds_native.errors import ArgumentError
from largeds_native.trainer import Trainer, batches
from tests.trainer.helpers import data_loader, parameters_of, samples, small_model

Pair = namedtuple("Pair", "first second")


def make(model=None, loss=None, **options):
    model = small_model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Trainer(model, optimizer, loss or nn.CrossEntropyLoss(), progress=False, **options)


@pytest.mark.parametrize("kind", ["dict", "tuple", "named", "list"])
def test_inputs_targets_and_outputs_in_containers(kind):
    """A model with two inputs and two outputs: the same steps as with bare tensors, with metrics, in micro-batches."""
    wrap = {
        "dict": lambda a, b: {"a": a, "b": b},
        "tuple": lambda a, b: (a, b),
        "named": Pair,
        "list": lambda a, b: [a, b],
    }[kind]
    members = (lambda x: list(x.values())) if kind == "dict" else list

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_model()

        def forward(self, inputs):
            assert type(inputs) is type(wrap(0, 0))
            first, second = members(inputs)
            return wrap(self.inner(first + second), second)

    def loss(outputs, targets):
        return nn.functional.cross_entropy(members(outputs)[0], members(targets)[0])

    def accuracy(outputs, targets):
        assert not members(outputs)[0].requires_grad
        return (members(outputs)[0].argmax(1) == members(targets)[1]).double().mean()

    inputs, targets = samples(20)
    loader = [
        (wrap(x, torch.zeros_like(x)), wrap(y, y.clone()))
        for x, y in zip(inputs.split(8), targets.split(8), strict=True)
    ]
    trainer = make(Two(), loss, micro_batch=3, accumulate=2, metrics={"accuracy": accuracy})
    (logs,) = trainer.fit(loader, 1, loader)
    twin = make(micro_batch=3, accumulate=2, metrics={"accuracy": lambda o, t: (o.argmax(1) == t).double().mean()})
    (expected,) = twin.fit(data_loader(20, 8), 1, data_loader(20, 8))
    torch.testing.assert_close(parameters_of(trainer.model), parameters_of(twin.model))
    for name in ("train_accuracy", "val_accuracy", "val_loss"):
        assert logs[name] == pytest.approx(expected[name])


def test_names_beside_the_tensors_are_cut_with_them():
    """A DataLoader collates paths to a list; of more than two members, the targets are a tuple."""
    inputs, targets = samples(8)
    items = [(inputs[i], targets[i], f"image {i}", i) for i in range(8)]
    seen = []

    def loss(outputs, targets):
        labels, names, numbers = targets
        seen.append(list(names))
        assert [f"image {i}" for i in numbers] == list(names)
        return nn.functional.cross_entropy(outputs, labels)

    make(loss=loss, micro_batch=3).fit(DataLoader(items, 8), 1)
    assert seen == [[f"image {i}" for i in part] for part in ((0, 1, 2), (3, 4, 5), (6, 7))]


def test_narrow_copies_nothing():
    batch = {"x": torch.arange(6), "y": [np.arange(12).reshape(6, 2), ("a", "b", "c", "d", "e", "f")], "z": "what"}
    part = batches.narrow(batch, 2, 3)
    assert part["x"].tolist() == [2, 3, 4]
    assert part["x"].untyped_storage().data_ptr() == batch["x"].untyped_storage().data_ptr()
    assert part["y"][0].base is not None
    assert part["y"][1] == ("c", "d", "e")
    assert part["z"] == "what"
    assert batches.length(batch) == 6


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            {"image": torch.zeros(3, 6), "label": torch.zeros(3)},
            r"found dict with \['image', 'label'\]: let .*collate_fn",
        ),
        ((torch.zeros(3, 6),), r"\(inputs, targets\), found tuple of 1"),
        (None, r"\(inputs, targets\), found NoneType"),
        ((torch.zeros(3, 6), ["a", "b"]), r"same first dimension in a batch, found \[2, 3\]"),
        ((torch.zeros(3, 6), torch.tensor(1)), "same first dimension"),
        (("a", 3), "found no tensor"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_invalid_batches(batch, message, first):
    """At any position of a group; None does not mean the end of the data."""
    loader = [batch] if first else [tuple(samples(3)), batch]
    with pytest.raises(ArgumentError, match=message):
        make(accumulate=2).fit(loader, 1)
    with pytest.raises(ArgumentError, match=message):
        make().evaluate(loader)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: 0.5, "a tensor of one element, found float"),
        (lambda o, t: nn.functional.cross_entropy(o, t, reduction="none"), r"found shape \(8,\)"),
    ],
)
def test_invalid_losses(loss, message):
    with pytest.raises(ArgumentError, match=message):
        make(loss=loss).fit(data_loader(), 1)
    with pytest.raises(ArgumentError, match=message):
        make(loss=loss).evaluate(data_loader())
