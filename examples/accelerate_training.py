"""Accelerate: prepare the model and the optimizer; the Loader feeds the process's own device.

largeds pack photos/train train.lds
accelerate launch examples/accelerate_training.py train.lds
"""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torchvision.models import resnet18

import largeds_native as lds


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224, accumulate: int = 2) -> float:
    accelerator = Accelerator(gradient_accumulation_steps=accumulate)
    store = lds.open(path)
    mean, std = store.statistics
    augment = lds.Augment(random_crop=crop, padding=crop // 8, flip=0.5)
    # A Loader needs no `prepare`: it takes its share by rank, and delivers on the device. drop_last: Accelerate
    # weighs every batch alike (lds.Accumulator and lds.Trainer weigh every sample alike).
    loader = lds.Loader(
        store,
        batch_size,
        shuffle=True,
        augment=augment,
        mean=mean,
        std=std,
        device=accelerator.device,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        drop_last=True,
    )
    model = resnet18(num_classes=len(store.classes))
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-3))
    criterion = nn.CrossEntropyLoss()
    average = 0.0
    for epoch in range(epochs):
        losses = []
        for images, labels in loader:
            with accelerator.accumulate(model):
                loss = criterion(model(images), labels)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach())
        average = accelerator.gather(torch.stack(losses)).mean().item()
        accelerator.print(f"epoch {epoch + 1}: loss {average:.3f}")
    return average


if __name__ == "__main__":
    main(sys.argv[1])
