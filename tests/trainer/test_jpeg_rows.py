"""The trainer with a Loader over JPEG rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import largeds_native as lds
from largeds_native.store import JpegStore
from tests.builders.stores import make_jpeg_store
from tests.trainer.helpers import Stop, StopAt, parameters_of

AUGMENT = lds.Augment(resized_crop=16, flip=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> JpegStore:
    return make_jpeg_store(tmp_path_factory.mktemp("jpeg"), 22, classes=3, shard_bytes=20_000)


def make_trainer(folder: Path | None, callbacks: tuple = ()) -> lds.Trainer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    options = {"accumulate": 2, "checkpoint_every": 1, "keep_last": 3, "progress": False, "callbacks": callbacks}
    return lds.Trainer(model, optimizer, nn.CrossEntropyLoss(), checkpoint_dir=folder, **options)


def loaders(store: JpegStore) -> tuple[lds.Loader, lds.Loader]:
    mean, std = store.statistics
    scale = {"mean": mean, "std": std, "threads": 2}
    validation = lds.Augment(resize=20, center_crop=16)
    return (
        lds.Loader(store, 4, shuffle=True, seed=5, augment=AUGMENT, **scale),
        lds.Loader(store, 4, augment=validation, **scale),
    )


def test_a_resumed_run_ends_like_an_uninterrupted_one(store: JpegStore, tmp_path: Path) -> None:
    whole = make_trainer(None)
    train, val = loaders(store)
    whole.fit(train, 2, val_loader=val)
    with pytest.raises(Stop):
        make_trainer(tmp_path / "run", (StopAt(2),)).fit(loaders(store)[0], 2, val_loader=val)
    again = make_trainer(tmp_path / "run")
    again.fit(loaders(store)[0], 2, val_loader=val)
    assert torch.equal(parameters_of(again.model), parameters_of(whole.model))
    assert again.evaluate(val) == whole.evaluate(val)
