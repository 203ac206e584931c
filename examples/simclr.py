"""Self-supervised training on two views of each image (SimCLR), with colours that are drawn for each view.

largeds pack photos/train train.lds --codec jpeg --resize 256
python examples/simclr.py train.lds
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torchvision.models import resnet18

import largeds_native as lds


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.5) -> torch.Tensor:
    """The loss of SimCLR: each embedding should find the one of the other view among all 2n - 1 others."""
    n = len(first)
    embeddings = nn.functional.normalize(torch.cat([first, second]), dim=1)
    similarity = embeddings @ embeddings.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=first.device).roll(n)
    return nn.functional.cross_entropy(similarity, partner)


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224) -> float:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    store = lds.open(path)
    mean, std = store.statistics
    view = lds.Augment(resized_crop=crop, scale=(0.2, 1.0), flip=0.5)
    color = lds.ColorAugment(
        0.8, 0.8, 0.8, 0.2, p=0.8, grayscale=0.2, blur=0.5, blur_kernel=crop // 20 * 2 + 1, blur_sigma=(0.1, 2.0)
    )
    loader = lds.Loader(
        store, batch_size, shuffle=True, augment=[view, view], color=color, mean=mean, std=std, device=device,
        drop_last=True, fields=(),
    )  # fmt: skip

    model = resnet18(num_classes=64).to(device)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    average = 0.0
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for (views,) in loader:
            loss = nt_xent(*model(torch.cat(views)).chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        average = total.item() / len(loader)
        print(f"epoch {epoch + 1}: loss {average:.3f}")
    return average


if __name__ == "__main__":
    main(sys.argv[1])
