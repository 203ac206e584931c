"""torch's DataLoader over a store: replace ImageFolder by StoreDataset, and keep the rest.

largeds pack photos/train train.lds
python examples/torch_dataloader.py train.lds
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18
from torchvision.transforms import v2

import largeds_native as lds


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224, workers: int = 2) -> float:
    store = lds.open(path)
    mean, std = store.statistics
    # transforms single uint8 images in the workers; without a transform, a worker gathers whole batches in one pass
    dataset = lds.StoreDataset(store, v2.Compose([v2.RandomCrop(crop, padding=crop // 8), v2.RandomHorizontalFlip()]))
    sampler = lds.ShuffleSampler(len(dataset), seed=0)  # or shuffle=True; this one can be resumed
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)
    # what is the same for every image is cheaper on the batch
    to_input = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    model = resnet18(num_classes=len(store.classes))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    criterion = nn.CrossEntropyLoss()
    average = 0.0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        total = 0.0
        for images, labels in loader:
            loss = criterion(model(to_input(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(images)
        average = total / len(store)
        print(f"epoch {epoch + 1}: loss {average:.3f}")
    return average


if __name__ == "__main__":
    main(sys.argv[1])
