"""A sharded model (FSDP2) that goes on after a process or a machine was lost, on as many as are left.

largeds pack photos/train train.lds
torchrun --nnodes 1:4 --nproc-per-node 8 --max-restarts 10 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
    examples/elastic_training.py train.lds /shared/checkpoints

torchrun starts all processes anew when one fails, or when machines come or go. Each start finds the newest checkpoint,
which any number of processes can load, and goes on with the samples of the epoch that nobody has seen.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torchvision.models import resnet18

import largeds_native as lds


def main(path: str, checkpoints: str, epochs: int = 2, crop: int = 224, callbacks: tuple = ()) -> float:
    on_gpu = torch.cuda.is_available()
    store, rank, world_size = next(dist.rendezvous("env://"))  # of torchrun; a restart must not find the keys of before
    store = dist.PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    backend = "cuda:nccl,cpu:gloo" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    device = torch.device("cuda", dist.get_node_local_rank()) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)

    data = lds.open(path)
    mean, std = data.statistics
    augment = lds.Augment(random_crop=crop, padding=crop // 8, flip=0.5)
    each = 64 // world_size  # 64 samples a step, whatever the number of processes
    loader = lds.Loader(data, each, shuffle=True, augment=augment, mean=mean, std=std, device=device)

    torch.manual_seed(0)
    model = resnet18(num_classes=len(data.classes)).to(device)
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        fully_shard(layer)
    fully_shard(model)  # what is left
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)  # after fully_shard, which replaces the parameters

    trainer = lds.Trainer(
        model, optimizer, nn.CrossEntropyLoss(), checkpoint_dir=checkpoints, checkpoint_every=100, callbacks=callbacks
    )
    history = trainer.fit(loader, epochs)  # resume="auto"
    dist.destroy_process_group()
    return history[-1]["train_loss"]


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
