"""The trainer with loaders of several views, of masks, and of several stores."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.trainer import Trainer
from tests.builders.stores import make_jpeg_store
from tests.trainer.helpers import Stop, StopAt, numbers, parameters_of

LARGE, SMALL = lds.Augment(resized_crop=8, flip=0.5), lds.Augment(resized_crop=(6, 4))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of two classes, the first with masks of three."""
    folder = tmp_path_factory.mktemp("stores")
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (14, 3, 12, 12), np.uint8), rng.integers(0, 3, (14, 12, 12), np.uint8)
    options: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
    return {
        "masked": lds.pack((images, np.arange(14) % 2), folder / "masked", masks=masks, **options),
        "raw": lds.pack((images, np.arange(14) % 2), folder / "raw", **options),
        "jpeg": make_jpeg_store(folder, 9),
    }


class OfAnnotatedTensor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean((2, 3)))


class OfTensor(OfAnnotatedTensor):
    def forward(self, images):
        return super().forward(images)


class OfViews(OfAnnotatedTensor):
    def forward(self, views):
        return torch.stack([super(OfViews, self).forward(view) for view in views])


def loss_of_views(outputs: Tensor, labels: Tensor) -> Tensor:
    return sum(functional.cross_entropy(one, labels) for one in outputs)  # type: ignore[return-value]


def trainer_of(model: nn.Module, loss: Any = None, **options: Any) -> Trainer:
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return Trainer(model, optimizer, loss or nn.CrossEntropyLoss(), **{"progress": False} | options)


def network(channels: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, channels, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("model", [network, OfAnnotatedTensor, lambda: torch.compile(OfAnnotatedTensor())])
@pytest.mark.parametrize("augment", [[LARGE, SMALL], [LARGE]], ids=["two", "one"])
def test_views_for_a_model_of_one_tensor(stores: dict[str, Any], model: Any, augment: list[lds.Augment]) -> None:
    views, plain = (lds.Loader(stores["jpeg"], 4, augment=one) for one in (augment, LARGE))
    trainer = trainer_of(model())
    found = rf"found views, as a list of {len(augment)}, \(3, 8, 8\)" + r" and \(3, 6, 4\)" * (len(augment) - 1)
    for name, use in (
        ("train_loader", lambda: trainer.fit(views, 1)),
        ("val_loader", lambda: trainer.fit(plain, 1, views)),
        ("loader", lambda: trainer.evaluate(views)),
    ):
        with pytest.raises(ArgumentError, match=f"^{name}: expected one tensor of images, .*{found}: give the Loader"):
            use()
    assert trainer.step == 0
    assert views.stats()["allocations"] == plain.stats()["allocations"] == 0  # nothing was loaded


def test_views_for_a_model_that_does_not_say_what_it_takes(stores: dict[str, Any]) -> None:
    views = lds.Loader(stores["jpeg"], 4, augment=[LARGE, SMALL])
    dataset = lds.StoreDataset(stores["jpeg"], augment=[LARGE, SMALL])
    for loader in (views, DataLoader(dataset, 4)):
        trainer = trainer_of(OfTensor())
        for use in (partial(trainer.fit, loader, 1), partial(trainer.evaluate, loader)):
            with pytest.raises(
                ArgumentError, match=r"list of 2, \(3, 8, 8\) and \(3, 6, 4\), .* raised AttributeError"
            ):
                use()
        assert trainer.step == 0


def test_a_model_of_views(stores: dict[str, Any]) -> None:
    loader = partial(lds.Loader, stores["jpeg"], 4, augment=[LARGE, SMALL], seed=1)
    found: list[Any] = []
    for micro_batch in (None, 3, "auto"):
        torch.manual_seed(0)
        trainer = trainer_of(OfViews(), loss_of_views, micro_batch=micro_batch, accumulate=2)
        history = trainer.fit(loader(shuffle=True), 2, loader())
        assert trainer.step == 4
        found.append((parameters_of(trainer.model), [logs["val_loss"] for logs in history]))
    torch.testing.assert_close(found[1:], found[:1] * 2)


def test_batches_without_targets_or_with_names(stores: dict[str, Any]) -> None:
    for options, found in (({"names": {}}, "found dict with"), ({"fields": ()}, "found tuple of 1: .*no labels")):
        loader = lds.Loader(stores["raw"], 4, **options)
        with pytest.raises(ArgumentError, match=rf"expected the loader to yield \(inputs, targets\), {found}"):
            trainer_of(network()).fit(loader, 1)
        assert loader.stats()["allocations"] == 0


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), functional.cross_entropy, nn.MSELoss()], ids=["module", "function", "of values"]
)
def test_several_targets_for_a_loss_of_torch(stores: dict[str, Any], loss: Any) -> None:
    loader = partial(lds.Loader, stores["masked"], 4)
    for found, batches in (
        ("mask, label", loader(fields=("mask", "label"))),
        ("a list of 2 masks", loader(fields=("mask",), augment=[LARGE, SMALL])),
    ):
        with pytest.raises(ArgumentError, match=f"train_loader: expected one field, as .* found {found}: give"):
            trainer_of(OfViews(), loss).fit(batches, 1)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint16", "int64"])
def test_labels_of_each_dtype(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), np.uint8))
    np.save(tmp_path / "y.npy", np.arange(6, dtype=dtype) % 2)
    store = lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    if dtype in ("uint8", "int64"):
        trainer_of(network()).fit(lds.Loader(store, 3), 1)
        return
    with pytest.raises(
        ArgumentError, match=f"expected field 'label' of torch.int64, .* found torch.{dtype}: give a loss"
    ):
        trainer_of(network()).fit(lds.Loader(store, 3), 1)
    trainer_of(network(), lambda outputs, labels: functional.cross_entropy(outputs, labels.long())).fit(
        lds.Loader(store, 3), 1
    )


def test_masks(stores: dict[str, Any]) -> None:
    loader = partial(lds.Loader, stores["masked"], 4, augment=LARGE)
    masks = loader(fields="mask", shuffle=True)
    for loss in (nn.CrossEntropyLoss(ignore_index=255), functional.cross_entropy):
        with pytest.raises(
            ArgumentError, match=r"train_loader: expected field 'mask' of torch.int64, .* found torch.uint8"
        ):
            trainer_of(nn.Conv2d(3, 3, 1), loss).fit(masks, 1)
    assert masks.stats()["allocations"] == 0

    def of_masks(outputs: Tensor, masks: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, masks.long())

    def of_both(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        return of_masks(outputs, targets[0]) + functional.cross_entropy(outputs.mean((2, 3)), targets[1])

    for fields, loss in (("mask", of_masks), (("mask", "label"), of_both)):
        torch.manual_seed(0)
        history = trainer_of(nn.Conv2d(3, 3, 1), loss, micro_batch=3).fit(
            loader(fields=fields), 2, loader(fields=fields)
        )
        assert np.isfinite([logs["val_loss"] for logs in history]).all()


@pytest.mark.parametrize("kind", ["concat", "mix", "weighted"])
@pytest.mark.parametrize("stop", [3, 9])
def test_several_stores_resume_bit_for_bit(stores: dict[str, Any], tmp_path: Path, kind: str, stop: int) -> None:
    parts = [stores["raw"], stores["jpeg"]]
    joined = lds.mix(parts, [0.7, 0.3]) if kind == "mix" else lds.concat(parts)
    options: dict[str, Any] = {"order": "weighted", "weights": [0.7, 0.3]} if kind == "weighted" else {"shuffle": True}

    def fit(folder: Path, callbacks: Any = ()) -> Trainer:
        trainer = trainer_of(network(), accumulate=2, checkpoint_dir=folder, checkpoint_every=1, callbacks=callbacks)
        train = lds.Loader(joined, 3, augment=LARGE, seed=4, **options)
        trainer.fit(train, 3, lds.Loader(lds.concat(parts), 5, augment=LARGE))
        return trainer

    whole = fit(tmp_path / "whole")
    with pytest.raises(Stop):
        fit(tmp_path / "cut", [StopAt(stop)])
    resumed = fit(tmp_path / "cut")
    assert torch.equal(parameters_of(whole.model), parameters_of(resumed.model))
    assert numbers(whole.history) == numbers(resumed.history)
    assert whole.step == 12  # 23 samples: 8 batches in 4 steps


def test_empty_batches(stores: dict[str, Any]) -> None:
    for options in (
        {"augment": LARGE},
        {"augment": [LARGE, SMALL], "fields": ("label", "mask"), "dtype": torch.bfloat16},
        {"fields": "mask", "names": {"mask": "labels"}, "dtype": torch.uint8},
        {"augment": [LARGE, SMALL], "color": lds.ColorAugment(0.4), "mean": [0.5] * 3, "std": [0.2] * 3},
    ):
        with lds.Loader(stores["masked"], 4, **options) as loader:
            assert kinds(loader.empty_batch()) == kinds(next(iter(loader)))
    with pytest.raises(ArgumentError, match="the loader is closed"):
        loader.empty_batch()


def kinds(batch: Any) -> Any:
    """Its structure, with the shape of one sample and the dtype of each tensor."""
    if isinstance(batch, dict):
        return {key: kinds(value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(map(kinds, batch))
    return batch.shape[1:], batch.dtype
