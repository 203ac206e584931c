"""A plain training loop over the Loader.

largeds pack photos/train train.lds
python examples/plain_loop.py train.lds
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torchvision.models import resnet18

import largeds_native as lds


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = lds.open(path)
    mean, std = store.statistics  # of all images, from the pack
    augment = lds.Augment(random_crop=crop, padding=crop // 8, flip=0.5)
    # yields normalised float32 on the device; on a GPU, images are copied as uint8 and normalised there
    loader = lds.Loader(store, batch_size, shuffle=True, augment=augment, mean=mean, std=std, device=device)

    model = resnet18(num_classes=len(store.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    criterion = nn.CrossEntropyLoss()
    average = 0.0
    for epoch in range(epochs):  # each iteration is the next epoch, with its own order
        total = torch.zeros((), device=device)
        for images, labels in loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(images)
        average = total.item() / len(store)
        print(f"epoch {epoch + 1}: loss {average:.3f}")
    return average


if __name__ == "__main__":
    main(sys.argv[1])
