"""Replicas that come and go while the others train on, without a restart: torchft (pip install torchft-nightly).

torchft_lighthouse --min_replicas 1 --join_timeout_ms 5000
TORCHFT_LIGHTHOUSE=http://HOST:29510 python examples/elastic_torchft.py train.lds    # for each GPU, again if it dies

The lighthouse says before each step who takes part. The Loader's state counts samples over all replicas, so they share
out those of the epoch that nobody has seen. A step that failed is repeated by those who are left.
"""

import sys

import torch
import torchft
from torchvision.models import resnet18

import largeds_native as lds


def main(path: str, epochs: int = 2, crop: int = 224, batch: int = 64, after_step=lambda labels: None) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = lds.open(path)
    options = {"augment": lds.Augment(random_crop=crop, flip=0.5), "device": device, "shuffle": True}
    model = resnet18(num_classes=len(data.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    run = {"position": lds.Loader(data, batch, shuffle=True).state_dict(), "share": None}
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    group = torchft.ProcessGroupNCCL() if device.type == "cuda" else torchft.ProcessGroupGloo()
    own = {"rank": 0, "world_size": 1, "store_addr": "localhost", "store_port": store.port}  # a replica is one process
    manager = torchft.Manager(group, None, None, 1, use_async_quorum=False, **own)
    for name, part in (("model", model), ("optimizer", optimizer)):  # what a newcomer gets from the others
        manager.register_state_dict_fn(name, part.load_state_dict, part.state_dict)
    manager.register_state_dict_fn("run", run.update, lambda: run | {"share": None})
    ddp = torchft.DistributedDataParallel(manager, model)
    while run["position"]["epoch"] < epochs:
        optimizer.zero_grad()
        manager.start_quorum()  # a newcomer gets it here
        share = manager.participating_rank(), manager.num_participants()
        if run["share"] != share:
            loader = lds.Loader(data, batch // share[1], rank=share[0], world_size=share[1], **options)
            loader.load_state_dict(run["position"])
            batches, run["share"] = iter(loader), share
        images, labels = next(batches)
        torch.nn.functional.cross_entropy(ddp(images), labels).backward()
        if not manager.should_commit():  # a replica was lost in this step
            run["share"] = None
            continue
        optimizer.step()
        after_step(labels)
        if not loader.remaining:
            loader.set_epoch(run["position"]["epoch"] + 1)
            run["share"] = None
        run["position"] = loader.state_dict()
    manager.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
