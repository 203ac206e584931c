"""Several processes with DistributedDataParallel: the Loader finds its rank, and yields its share of the data.

largeds pack photos/train train.lds
torchrun --standalone --nproc-per-node 2 examples/torchrun_training.py train.lds
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models import resnet18

import largeds_native as lds


def main(path: str, epochs: int = 2, batch_size: int = 32, crop: int = 224) -> None:
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", rank % torch.cuda.device_count()) if on_gpu else torch.device("cpu")

    store = lds.open(path)  # the processes of a machine share the store in the page cache
    mean, std = store.statistics
    augment = lds.Augment(random_crop=crop, padding=crop // 8, flip=0.5)
    loader = lds.Loader(store, batch_size, shuffle=True, augment=augment, mean=mean, std=std, device=device)

    torch.manual_seed(0)
    model = DistributedDataParallel(resnet18(num_classes=len(store.classes)).to(device))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(epochs):  # all processes have the same order, and each gets its part
        seen_and_loss = torch.zeros(2, device=device)
        for images, labels in loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen_and_loss += torch.stack([torch.tensor(1.0, device=device), loss.detach()]) * len(images)
        dist.all_reduce(seen_and_loss)
        if rank == 0:
            seen, total = seen_and_loss.tolist()
            print(f"epoch {epoch + 1}: {seen:.0f} images, loss {total / seen:.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
