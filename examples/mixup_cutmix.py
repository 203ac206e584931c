"""MixUp and CutMix from torchvision's v2 transforms, on the batches that the Loader made, with changed colours.

largeds pack photos/train train.lds
python examples/mixup_cutmix.py train.lds
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.transforms import v2

import largeds_native as lds


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = lds.open(path)
    classes = len(store.classes)
    mean, std = store.statistics
    augment = lds.Augment(resized_crop=crop, flip=0.5)
    color = lds.ColorAugment(0.4, 0.4, 0.4)  # of each image, before it is normalised
    kwargs = {"augment": augment, "color": color, "mean": mean, "std": std, "device": device}
    loader = lds.Loader(store, batch_size, shuffle=True, **kwargs)
    # mixes the images of a batch, and returns labels of (n, classes) probabilities
    mix = v2.RandomChoice([v2.MixUp(num_classes=classes, alpha=0.2), v2.CutMix(num_classes=classes)])

    model = resnet18(num_classes=classes).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    criterion = nn.CrossEntropyLoss()  # takes probabilities as well as numbers
    average = 0.0
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for images, labels in loader:
            images, targets = mix(images, labels)
            loss = criterion(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(images)
        average = total.item() / len(store)
        print(f"epoch {epoch + 1}: loss {average:.3f}")
    return average


if __name__ == "__main__":
    main(sys.argv[1])
