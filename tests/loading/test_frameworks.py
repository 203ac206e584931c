"""Accelerate and Lightning use a Loader directly, with any of DataLoader's attributes that it has."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import largeds_native as lds

ROOT = Path(__file__).parents[2]


def test_accelerate_leaves_a_loader_as_it_is(store: Any, tmp_path: Any) -> None:
    """It could make a DataLoader over raw rows, in another order, from `dataset` and `sampler`."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    loader = lds.Loader(store, 16, shuffle=True)
    model = nn.Linear(2, 2)
    assert accelerator.prepare(model, torch.optim.SGD(model.parameters()), loader)[-1] is loader
    assert accelerator.prepare_data_loader(loader) is loader
    accelerator.save_state(tmp_path)
    with pytest.raises((TypeError, ValueError)):  # register_for_checkpointing is the way
        list(accelerate.skip_first_batches(loader, 2))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_accelerate_saves_a_loaders_position(store: Any, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")

    def started() -> tuple[Any, lds.Loader]:
        accelerator, loader = accelerate.Accelerator(cpu=True), lds.Loader(store, 16, shuffle=True)
        accelerator.register_for_checkpointing(loader)
        return accelerator, loader

    accelerator, loader = started()
    labels = []
    for number, (_, batch) in enumerate(loader):
        labels.append(batch.tolist())
        if number == 2:
            accelerator.save_state(str(tmp_path / "saved"))
    accelerator, loader = started()
    accelerator.load_state(str(tmp_path / "saved"))
    assert [batch.tolist() for _, batch in loader] == labels[3:]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_lightning_fits_and_evaluates(store: Any, tmp_path: Any, shuffle: bool) -> None:
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Model(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(192, 100)
            self.seen: list[int] = []

        def training_step(self, batch: Any) -> torch.Tensor:
            self.seen += batch[1].tolist()
            return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

        def validation_step(self, batch: Any) -> None:
            self.log("mean", batch[0].mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(**options: Any) -> list[int]:
        options |= {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
        options |= {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_checkpointing": False}
        model = Model()
        loaders = lds.Loader(store, 16, shuffle=shuffle), lds.Loader(store, 32)
        lightning.Trainer(max_epochs=2, **options).fit(model, *loaders)
        return model.seen

    seen = fit()
    assert sorted(seen[:100]) == sorted(seen[100:]) == list(range(100))
    assert (seen[:100] == seen[100:]) is not shuffle
    if shuffle:  # it can't switch our shuffling off, and says so
        with pytest.raises(ValueError, match="needs to subclass"):
            fit(overfit_batches=2)
    else:
        assert fit(overfit_batches=2) == [*range(32), *range(32)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("source", ["loader", "dataset"])
def test_lightning_on_two_processes_shares_the_samples_out(store: Any, tmp_path: Any, source: str) -> None:
    """The loader is made before Lightning starts the processes, and finds its rank when the epoch begins; a DataLoader
    over a StoreDataset gets Lightning's sampler. Batches are dicts."""
    pytest.importorskip("lightning")
    command = [sys.executable, "-m", "tests.programs.lightning_on_ranks", str(store.path), str(tmp_path), source]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(labels) for labels in seen] == [50, 50]
    assert sorted(seen[0] + seen[1]) == list(range(100))
