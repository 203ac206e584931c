"""Arguments of torch's DataLoader and Datasets that a Loader does not have, and what it has in their place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

from largeds_native.errors import ArgumentError

P = ParamSpec("P")

THREADS = "threads=n is the number of the core's threads, by default what the process may use; there are no processes"
OF_DATASETS = ("transform", "target_transform")
IN_PLACE = {
    "transform": "augment=Augment(...) crops and flips, color=ColorAugment(...) changes colours, mean= and std= "
    "normalise; others are applied to the batches",
    "target_transform": "apply it to the labels of the batches",
    "num_workers": THREADS,
    "persistent_workers": THREADS,
    "multiprocessing_context": THREADS,
    "worker_init_fn": THREADS,
    "pin_memory": "device='cuda' gives batches on the device, through pinned memory",
    "pin_memory_device": "device='cuda' gives batches on the device, through pinned memory",
    "prefetch_factor": "prefetch=n is the number of batches that are filled ahead",
    "sampler": "order=sampler",
    "batch_sampler": "order=sampler, with batch_size=None",
    "generator": "seed=n; the order is a function of it and of the epoch",
    "collate_fn": "fields=(...) says what comes with the images; batches are tensors already",
    "timeout": "there are no processes that could hang",
}


def explains_dataloader_arguments(init: Callable[P, None]) -> Callable[P, None]:
    """An `__init__` that says what to type in place of an argument of a DataLoader or a Dataset."""

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        for name in kwargs:
            if name in IN_PLACE:
                whose = "datasets" if name in OF_DATASETS else "DataLoader"
                raise ArgumentError(f"{name} is an argument of {whose}, and Loader has none. Here: {IN_PLACE[name]}")
        init(*args, **kwargs)

    return checked
