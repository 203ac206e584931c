"""Two data sets in one training, seven images of the first for three of the second; the classes match by name.

python examples/mix_stores.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import largeds_native as lds

COLOURS = {"blue": (30, 30, 220), "green": (20, 200, 40), "red": (230, 40, 20)}


def make(path: Path, names: list[str], count: int) -> lds.Store:
    """A store of noisy squares of these colours, each a class."""
    random = np.random.default_rng(count)
    labels = np.arange(count) % len(names)
    images = np.array([COLOURS[names[label]] for label in labels])[:, None, None] + random.integers(
        -20, 21, (count, 32, 32, 3)
    )
    pixels = images.clip(0, 255).astype(np.uint8).transpose(0, 3, 1, 2)
    return lds.pack((pixels, labels), path, classes=names, resize=None, crop=None, progress=False)


def main(folder: str | Path, epochs: int = 3, batch_size: int = 20) -> float:
    photos = make(Path(folder) / "photos.lds", ["red", "green"], 60)
    drawings = make(Path(folder) / "drawings.lds", ["blue", "red"], 30)
    mixed = lds.mix([photos, drawings], weights=[0.7, 0.3])
    print(mixed.classes)  # red, green, blue: labels have the numbers of these
    mean, std = mixed.statistics
    augment = lds.Augment(random_crop=32, padding=4, flip=0.5)
    loader = lds.Loader(mixed, batch_size, shuffle=True, seed=0, augment=augment, mean=mean, std=std)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, len(mixed.classes)))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    loss = torch.zeros(())
    for epoch in range(epochs):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    return loss.item()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
