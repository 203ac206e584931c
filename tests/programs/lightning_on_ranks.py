"""Lightning's fit on two processes, which it starts itself: each writes the labels that it saw.

python -m tests.programs.lightning_on_ranks STORE FOLDER loader|dataset
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

import largeds_native as lds


class Model(lightning.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 100)
        self.seen: list[int] = []

    def training_step(self, batch: Any) -> torch.Tensor:
        images, labels = batch["pixel_values"], batch["labels"]
        self.seen += labels.tolist()
        return nn.functional.cross_entropy(self.layer(images.flatten(1).float()), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


if __name__ == "__main__":
    store, names = lds.open(sys.argv[1]), {"image": "pixel_values", "label": "labels"}
    loader: Any = lds.Loader(store, 10, shuffle=True, names=names)  # before there are ranks
    if sys.argv[3] == "dataset":
        loader = DataLoader(lds.StoreDataset(store, names=names), 10, shuffle=True)
    quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
    folder = Path(sys.argv[2])
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", enable_checkpointing=False,
        default_root_dir=folder, **quiet,
    )  # fmt: skip
    model = Model()
    trainer.fit(model, loader)
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(model.seen))
