"""How much memory does accumulation take beside a single micro-batch?

The memory is the peak of what torch's CPU allocator holds during a step, read from its own allocation records.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import RESULTS, arguments, console
from rich.table import Table
from torch import nn
from torch.profiler import ProfilerActivity, profile
from trainer_models import resnet18, sgd, small_cnn

from largeds_native._internal.measure import machine_facts, write_json
from largeds_native.trainer import Trainer


def fresh_batches(count: int, size: int, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields batches that exist only while they are used, as those of a loader."""
    for _ in range(count):
        yield torch.randn(batch_size, 3, size, size), torch.zeros(batch_size).long()


def plain_step(model: nn.Module, batches: Any, optimizer: torch.optim.Optimizer, *, keep_gradients: bool) -> None:
    """One step per batch, by hand. `keep_gradients`: they exist before it, as with zero_grad(set_to_none=False)."""
    if keep_gradients:
        allocate_gradients(model)
    for inputs, targets in batches:
        loss: Any = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def allocate_gradients(model: nn.Module) -> None:
    for p in model.parameters():
        p.grad = torch.zeros_like(p)


def with_momentum(model: nn.Module) -> torch.optim.Optimizer:
    """An optimizer whose momentum is already allocated."""
    optimizer = sgd(model)
    allocate_gradients(model)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that torch's CPU allocator holds at once beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        run()
    held = peak = 0
    events = (e for e in records.profiler.kineto_results.events() if e.name() == "[memory]")
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure_memory(make: Callable[[], nn.Module], size: int, batch: int) -> tuple[int, int, int, int]:
    """(one micro-batch, one with gradients kept, the Trainer's step of eight, the gradients) in bytes."""
    peaks = []
    for keep in (False, True):
        model = make().train()
        step = functools.partial(plain_step, model, fresh_batches(1, size, batch), with_momentum(model))
        peaks.append(peak_bytes(functools.partial(step, keep_gradients=keep)))
    model = make()
    trainer = Trainer(model, with_momentum(model), nn.CrossEntropyLoss(), accumulate=8, progress=False)
    eight = peak_bytes(lambda: trainer.fit(fresh_batches(8, size, batch), 1))
    return peaks[0], peaks[1], eight, sum(p.numel() * p.element_size() for p in model.parameters())


def report_memory() -> None:
    """If gradients are freed after each step, forward needs no memory for them; accumulation must keep them."""
    table = Table(
        title="Peak memory of a step beyond model and optimizer: accumulate=8 against one micro-batch, by hand"
    )
    columns = ("", "1 micro-batch", "1, gradients kept", "Trainer, 8", "ratio", "to gradients kept", "the gradients")
    for column in columns:
        table.add_column(column, justify="left" if not column else "right")
    rows = []
    for name, make, size, batch in (
        ("small CNN, 32x32, batch 64", small_cnn, 32, 64),
        ("resnet18, 128x128, batch 16", resnet18, 128, 16),
        ("resnet18, 224x224, batch 64", resnet18, 224, 64),
    ):
        one, kept, eight, gradients = measure_memory(make, size, batch)
        mib = [f"{n / 2**20:,.1f} MiB" for n in (one, kept, eight, gradients)]
        table.add_row(name, *mib[:3], f"{eight / one:.3f}", f"{eight / kept:.3f}", mib[3])
        rows.append({"name": name, "one": one, "one_gradients_kept": kept, "eight": eight, "gradients": gradients})
    console.print(table)
    content = {"question": str(table.title), "unit": "bytes", "machine": machine_facts(), "results": rows}
    write_json(RESULTS / "trainer-memory.json", content | {"date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    torch.set_num_threads(arguments(__doc__).threads)
    report_memory()
