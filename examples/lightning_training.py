"""Lightning: a LightningDataModule with Loaders.

largeds pack photos/train train.lds && largeds pack photos/val val.lds
python examples/lightning_training.py train.lds val.lds
"""

from __future__ import annotations

import sys
from typing import Any

import lightning as L
import torch
from torch import nn
from torchvision.models import resnet18

import largeds_native as lds


class StoreData(L.LightningDataModule):
    """A Loader has a length, finds its rank itself, and has a state, which Lightning saves in its checkpoints."""

    def __init__(self, train: str, val: str, batch_size: int = 32, crop: int = 224) -> None:
        super().__init__()
        self.train, self.val, self.batch_size = lds.open(train), lds.open(val), batch_size
        mean, std = self.train.statistics
        self.normalise: dict[str, Any] = {"mean": mean, "std": std}
        self.augment = lds.Augment(random_crop=crop, padding=crop // 8, flip=0.5)
        self.crop = lds.Augment(center_crop=crop)

    def train_dataloader(self) -> lds.Loader:
        return lds.Loader(self.train, self.batch_size, shuffle=True, augment=self.augment, **self.normalise)

    def val_dataloader(self) -> lds.Loader:
        return lds.Loader(self.val, self.batch_size, augment=self.crop, **self.normalise)


class Classifier(L.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.model = resnet18(num_classes=classes)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.model(images), labels)

    def validation_step(self, batch: list[torch.Tensor]) -> None:
        images, labels = batch
        accuracy = (self.model(images).argmax(1) == labels).float().mean()
        self.log("accuracy", accuracy, batch_size=len(images), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


if __name__ == "__main__":
    data = StoreData(*sys.argv[1:3])
    L.Trainer(max_epochs=2).fit(Classifier(len(data.train.classes)), data)
