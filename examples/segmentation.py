"""Segmentation: images and masks under one geometry, and a Trainer. `python examples/segmentation.py`"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import largeds_native as lds

SIDE, IGNORE = 32, 255
WEIGHTS = torch.tensor([0.1] + [1.0] * 10)  # most pixels are ground


def scenes(n: int) -> tuple[Any, Any]:
    """Images with a digit somewhere on a noisy ground; masks with 0 for the ground, and the digit's number + 1."""
    digits, random = load_digits(), np.random.default_rng(0)
    images = random.integers(0, 60, (n, SIDE, SIDE, 3), np.uint8)
    masks = np.zeros((n, SIDE, SIDE), np.uint8)
    for image, mask, chosen in zip(images, masks, random.integers(0, len(digits.images), n), strict=True):
        ink = np.kron(digits.images[chosen], np.ones((3, 3)))
        y, x = random.integers(0, SIDE - 24, 2)
        where = (slice(y, y + 24), slice(x, x + 24))
        image[where][ink > 6] = (ink[ink > 6] * 13 + 40)[:, None].astype(np.uint8)
        mask[where][ink > 6] = digits.target[chosen] + 1
    return images, masks


def loss(scores: Tensor, masks: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores, masks.long(), WEIGHTS, ignore_index=IGNORE)


def weight(images: Tensor, masks: Tensor) -> Tensor:
    """What the mean of the loss divides by."""
    return WEIGHTS[masks[masks != IGNORE].long()].sum()


def main(n: int = 1000, epochs: int = 8) -> float:
    images, masks = scenes(n)
    with tempfile.TemporaryDirectory() as folder:
        source = lds.sources.arrays(images, masks=masks, ignore=IGNORE)
        store = lds.pack(source, f"{folder}/scenes.lds", resize=None, crop=None, progress=False)
        # what a crop shows outside of its image is IGNORE in the mask
        loader = lds.Loader(store, 32, shuffle=True, augment=lds.Augment(random_crop=SIDE, padding=2), fields=("mask",))
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 4), nn.ReLU(), nn.Conv2d(32, 64, 7, padding=3), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Conv2d(64, 11 * 16, 1), nn.PixelShuffle(4))
        trainer = lds.Trainer(model, torch.optim.Adam(model.parameters(), 3e-3), loss, weight=weight, progress=False)
        print("".join(f"epoch {e['epoch']}: loss {e['train_loss']:.3f}\n" for e in trainer.fit(loader, epochs)))
        with torch.no_grad():
            inked = [(model(x).argmax(1) == y)[y > 0].float() for x, y in lds.Loader(store, 32, fields=("mask",))]
    return torch.cat(inked).mean().item()


if __name__ == "__main__":
    print(f"of the ink, {main():.0%} has its digit")
