"""A long training script for `largeds doctor --script`: a DataLoader and a step, 4 ms each."""

import sys
import time

import torch
from torch.utils.data import DataLoader, TensorDataset


class SlowDataset(TensorDataset):
    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        time.sleep(0.004)
        return super().__getitem__(index)


if __name__ == "__main__":
    assert sys.argv[1:] == ["--epochs", "9"]
    data = SlowDataset(torch.zeros(40, 2))
    for _ in range(1000):
        for (_batch,) in DataLoader(data, 4, num_workers=1):
            time.sleep(0.004)
    print("never reached")
