"""What does the trainer cost beside a hand-written loop, Lightning's Trainer and Accelerate's loop?

All contenders train the same model from the same weights on the same batches with accumulate=4, on one thread; see
largeds_native/_internal/measure/paired_timing.py for how they take turns and what is measured. The hand-written loop is
correct: it weighs each batch by its number of samples. It reads no losses and gradients, while the Trainer reads both
and checks that they are finite. The trivial models show what each loop costs itself: divided by the time of a real
model's step, these microseconds bound the slow-down. "by hand, again" is the same loop once more, and shows the
difference measured between equal loops. Peers that are not installed are skipped: `pip install lightning accelerate`.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import logging
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import torch
from harness import RESULTS, console, options_parser
from rich.table import Table
from torch import nn
from trainer_models import OnlyParameters, resnet18, sgd, small_cnn, trivial_model

from largeds_native._internal.measure import machine_facts, write_json
from largeds_native._internal.measure.paired_timing import time_blocks, time_difference, time_ratio
from largeds_native.trainer import Accumulator, Trainer

ACCUMULATE = 4


def by_hand(model: nn.Module, loader: Any) -> None:
    """The correct loop: sums of losses, whose gradients are divided by the number of samples before the step."""
    optimizer, loss, samples = sgd(model), nn.CrossEntropyLoss(reduction="sum"), 0

    def step() -> None:
        for p in model.parameters():
            if p.grad is not None:
                p.grad /= samples
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    for i, (inputs, targets) in enumerate(loader):
        loss(model(inputs), targets).backward()
        samples += len(targets)
        if (i + 1) % ACCUMULATE == 0:
            step()
            samples = 0
    if samples:
        step()


def by_accumulator(model: nn.Module, loader: Any) -> None:
    loss = nn.CrossEntropyLoss()
    accumulator = Accumulator(model, sgd(model), accumulate=ACCUMULATE)
    model.train()
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        group.step()


def by_trainer(model: nn.Module, loader: Any) -> None:
    Trainer(model, sgd(model), nn.CrossEntropyLoss(), accumulate=ACCUMULATE, progress=False).fit(loader, 1)


def by_lightning(model: nn.Module, loader: Any) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = model, nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return self.loss(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.model)

    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=ACCUMULATE,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Module(), loader)


def by_accelerate(model: nn.Module, loader: Any) -> None:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    loss = nn.CrossEntropyLoss()
    model, optimizer, loader = accelerator.prepare(model, sgd(model), loader)
    model.train()
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            accelerator.backward(loss(model(inputs), targets))
            optimizer.step()
            optimizer.zero_grad()


def loops(make: Callable[[], nn.Module]) -> dict[str, Callable[[Any], None]]:
    """Each contender with its own model."""
    contenders = {"by hand": by_hand, "by hand, again": by_hand, "Accumulator": by_accumulator, "Trainer": by_trainer}
    peers = [("lightning", "Lightning Trainer", by_lightning), ("accelerate", "Accelerate", by_accelerate)]
    for module, name, loop in peers:
        if importlib.util.find_spec(module):
            contenders[name] = loop
        else:
            console.print(f"not measured: {name} (pip install {module})")
    return {name: functools.partial(loop, make()) for name, loop in contenders.items()}


def measure(title: str, seconds: dict[str, list[float]], steps: int) -> dict[str, Any]:
    """Print a table, and return the content of the JSON file."""
    table = Table(title=f"{title}, accumulate={ACCUMULATE}, {len(seconds['by hand'])} rounds of {steps} steps")
    for column in ("", "ms a step", "to by hand, 95 %", "µs a step more, 95 %", "Trainer to it, 95 %"):
        table.add_column(column, justify="right" if column else "left")
    rows = []
    for name in seconds:
        step = 1000 * statistics.median(seconds[name]) / steps
        times, ours = time_ratio(seconds, name, "by hand"), time_ratio(seconds, "Trainer", name)
        more = tuple(1e6 * value / steps for value in time_difference(seconds, name, "by hand"))
        columns = (interval(times, 3), interval(more, 0), interval(ours, 3))
        table.add_row(name, f"{step:.3f}", *columns)
        rows.append({"name": name, "ms": step, "to_by_hand": times, "us_more": more, "trainer_to_it": ours})
    console.print(table)
    return {"name": title, "steps": steps, "results": rows}


def interval(values: tuple[float, ...], digits: int) -> str:
    value, low, high = (f"{v:.{digits}f}" for v in values)
    return f"{value} ({low} to {high})"


QUESTIONS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    # name: (title, model, a batch's shape, steps in a block, rounds)
    "nothing": ("a model of 20 weights", trivial_model, (4, 4), 25, 100),
    "parameters": ("the parameters of resnet18, no work", OnlyParameters, (4, 4), 1, 60),
    "cnn": ("small CNN, 32x32, batch 64", small_cnn, (64, 3, 32, 32), 2, 60),
    "resnet18": ("resnet18, 32x32, batch 16", resnet18, (16, 3, 32, 32), 1, 15),
}


def main() -> None:
    parser = options_parser(__doc__)
    parser.set_defaults(rounds=None)
    parser.add_argument("--only", choices=[*QUESTIONS], help="one part of the question")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ.setdefault("ACCELERATE_LOG_LEVEL", "ERROR")
    for name, (title, make, shape, steps, rounds) in QUESTIONS.items():
        if options.only in (None, name):
            generator = torch.Generator().manual_seed(1)
            classes = make()(torch.zeros(2, *shape[1:])).shape[1]
            batch = (torch.randn(shape, generator=generator), torch.randint(classes, shape[:1], generator=generator))
            seconds = time_blocks(loops(make), batch, block=steps * ACCUMULATE, rounds=options.rounds or rounds)
            content = measure(title, seconds, steps) | {"machine": machine_facts(), "unit": "CPU time, one thread"}
            write_json(RESULTS / f"trainer-{name}.json", content | {"date": datetime.date.today().isoformat()})


if __name__ == "__main__":
    main()
