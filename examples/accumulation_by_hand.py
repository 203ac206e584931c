"""Exact gradient accumulation in your own loop.

A batch of 256 that does not fit into memory goes through the model 32 samples at a time, with four loader batches of 64
per step. The gradient of a step equals that of the 256 samples at once; the last step has fewer samples.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from largeds_native import Accumulator


def main(epochs: int = 3, samples: int = 1000) -> float:
    torch.manual_seed(0)
    centres = torch.randn(10, 64)
    labels = torch.randint(10, (samples,))
    loader = DataLoader(TensorDataset(centres[labels] + torch.randn(samples, 64), labels), 64, shuffle=True)

    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    criterion = nn.CrossEntropyLoss()  # a mean; for a sum, pass Accumulator(..., reduction="sum")

    accumulator = Accumulator(model, optimizer, accumulate=4, micro_batch=32, clip_grad_norm=1.0)
    loss = 0.0
    for epoch in range(epochs):
        for group in accumulator.groups(loader):  # one optimizer step each
            for inputs, targets in group:  # micro-batches: views, nothing is copied
                group.backward(criterion(model(inputs), targets))
            loss = group.step().loss  # clips, steps, and clears the gradients
        print(f"epoch {epoch + 1}: loss {loss:.3f}")
    return loss


if __name__ == "__main__":
    main()
