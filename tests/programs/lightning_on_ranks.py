"""Lightning's fit on two processes, which it starts itself: each writes the labels that it saw.

python -m tests.programs.lightning_on_ranks STORE FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn

import largeds_native as lds


class Model(lightning.LightningModule):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 100)
        self.seen: list[int] = []

    def training_step(self, batch: Any) -> torch.Tensor:
        self.seen += batch[1].tolist()
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


if __name__ == "__main__":
    loader = lds.Loader(lds.open(sys.argv[1]), 10, shuffle=True)  # before there are ranks
    quiet = {"logger": False, "enable_model_summary": False, "enable_progress_bar": False}
    folder = Path(sys.argv[2])
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", enable_checkpointing=False,
        default_root_dir=folder, **quiet,
    )  # fmt: skip
    model = Model()
    trainer.fit(model, loader)
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(model.seen))
