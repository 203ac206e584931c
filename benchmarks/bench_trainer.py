"""What does the trainer cost beside a hand-written loop, Lightning's Trainer and Accelerate's loop?

All contenders train the same model from the same weights on the same batches with accumulate=4, on one thread; see
largeds_native/_internal/measure/paired_timing.py for how they take turns and what is measured. The hand-written loop is
correct: it weighs each batch by its number of samples. It reads no losses and gradients, while the Trainer reads both
and checks that they are finite. The trivial models show what each loop costs itself: divided by the time of a real
model's step, these microseconds bound the slow-down. "by hand, again" is the same loop once more, and shows the
difference measured between equal loops. Peers that are not installed are skipped: `pip install lightning accelerate`.

    bench_trainer.py --device cuda

asks the same on a GPU (resnet18, 64x64, batch 64, accumulate 1 and 4, float32), in wall-clock time with a
synchronisation at the ends of each block. The blocks are many and short: in a virtual machine equal ones differ by
half, and the fast ones ("fast blocks": the tenth fastest of a hundred) are known better than the median. There the
hand-written loop is the shortest that there is: it has a mean loss, divided by `accumulate`, does nothing else, and is
right since all batches have one size. "Trainer with a Loader" knows of the labels what it would look up in those of a
store: that none is left out; the same "always guarded" does not ask whether the gradients are checked already
(optimizer_step.POLLS). `--device cpu` runs that in small.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import logging
import os
import statistics
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from harness import RESULTS, console, options_parser
from rich.table import Table
from torch import nn
from trainer_models import OnlyParameters, resnet18, sgd, small_cnn, trivial_model

from largeds_native._internal.measure import machine_facts, write_json
from largeds_native._internal.measure.paired_timing import (
    fast_ratio,
    time_blocks,
    time_difference,
    time_ratio,
    wall_clock_on,
)
from largeds_native.profile.peer_packages import command_for
from largeds_native.trainer import Accumulator, Trainer, optimizer_step

ACCUMULATE = 4


def shortest_by_hand(model: nn.Module, loader: Any, accumulate: int) -> None:
    optimizer, loss = sgd(model), nn.CrossEntropyLoss()
    model.train()
    for i, (inputs, targets) in enumerate(loader):
        (loss(model(inputs), targets) / accumulate).backward()
        if (i + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()


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


def by_accumulator(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE) -> None:
    loss = nn.CrossEntropyLoss()
    accumulator = Accumulator(model, sgd(model), accumulate=accumulate)
    model.train()
    for group in accumulator.groups(loader):
        for inputs, targets in group:
            group.backward(loss(model(inputs), targets))
        group.step()


def by_trainer(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE) -> None:
    Trainer(model, sgd(model), nn.CrossEntropyLoss(), accumulate=accumulate, progress=False).fit(loader, 1)


def by_trainer_with_loader(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE) -> None:
    """As with a Loader, of whose labels the Trainer knows before that none is left out."""
    trainer = Trainer(model, sgd(model), nn.CrossEntropyLoss(), accumulate=accumulate, progress=False)
    weighting: Any = trainer.accumulator.weighting
    weighting.weight.none_ignored, weighting.of_loader = True, lambda loader: contextlib.nullcontext()
    trainer.fit(loader, 1)


def by_guarding_trainer(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE) -> None:
    by_trainer_with_loader(model, _Polls(loader, 0), accumulate)


class _Polls:
    """A loader of a contender that takes turns with others, for whose steps POLLS is another number."""

    def __init__(self, loader: Any, polls: int) -> None:
        self._loader, self._polls = loader, polls

    def __iter__(self) -> Iterator[Any]:
        default = optimizer_step.POLLS
        for batch in self._loader:  # it is another contender's turn while this waits
            optimizer_step.POLLS = self._polls
            yield batch
            optimizer_step.POLLS = default


def by_lightning(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE, accelerator: str = "cpu") -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.loss = model, nn.CrossEntropyLoss()

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.loss(self.model(batch[0]), batch[1])
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.model)

    lightning.Trainer(
        max_epochs=1,
        accelerator=accelerator,
        devices=1,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Module(), loader)


def by_accelerate(model: nn.Module, loader: Any, accumulate: int = ACCUMULATE, cpu: bool = True) -> None:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=cpu, gradient_accumulation_steps=accumulate)
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
    contenders |= peers(by_lightning, by_accelerate)
    return {name: functools.partial(loop, make()) for name, loop in contenders.items()}


def peers(lightning: Callable[..., None], accelerate: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Those that are installed."""
    found = {}
    for module, name, loop in (
        ("lightning", "Lightning Trainer", lightning),
        ("accelerate", "Accelerate", accelerate),
    ):
        if importlib.util.find_spec(module):
            found[name] = loop
        else:
            console.print(f"not measured: {name} ({command_for(module)})")
    return found


def on_device(device: str, rounds: int | None) -> None:
    """The question on a GPU; on the CPU the same in small, to try it."""
    small = device == "cpu"
    cuda = device.startswith("cuda")
    images, labels = torch.randn((4, 3, 32, 32) if small else (64, 3, 64, 64)), torch.randint(10, (4 if small else 64,))
    batch = (images.to(device), labels.to(device))
    title = "resnet18, 32x32, batch 4" if small else "resnet18, 64x64, batch 64"
    for accumulate, steps, turns in ((1, 2, 15), (4, 1, 15)) if small else ((1, 2, 240), (4, 1, 120)):
        contenders: dict[str, Callable[..., None]] = {
            "by hand": shortest_by_hand,
            "by hand, again": shortest_by_hand,
            "Trainer": by_trainer,
            "Trainer with a Loader": by_trainer_with_loader,
            "the same, always guarded": by_guarding_trainer,
            **peers(
                functools.partial(by_lightning, accelerator="gpu" if cuda else "cpu"),
                functools.partial(by_accelerate, cpu=not cuda),
            ),
        }
        made: dict[str, Callable[[Any], None]] = {
            name: functools.partial(loop, resnet18().to(device), accumulate=accumulate)
            for name, loop in contenders.items()
        }
        clock = wall_clock_on(device)
        seconds = time_blocks(made, batch, block=steps * accumulate, rounds=rounds or turns, clock=clock)
        content = measure(title, seconds, steps, accumulate, "wall-clock time")
        content |= {"machine": machine_facts(), "device": torch.cuda.get_device_name() if cuda else device}
        content |= {"unit": "wall-clock time", "date": datetime.date.today().isoformat()}
        if not small:
            write_json(RESULTS / f"trainer-{device.replace(':', '-')}-accumulate-{accumulate}.json", content)


def measure(
    title: str, seconds: dict[str, list[float]], steps: int, accumulate: int = ACCUMULATE, clock: str = "CPU time"
) -> dict[str, Any]:
    """Print a table, and return the content of the JSON file."""
    title = f"{title}, accumulate={accumulate}"
    table = Table(title=f"{title}, {len(seconds['by hand'])} rounds of {steps} steps, {clock}")
    for column in (
        "",
        "ms a step",
        "steps/s",
        "to by hand, 95 %",
        "fast blocks, 95 %",
        "µs a step more, 95 %",
        "Trainer to it, 95 %",
    ):
        table.add_column(column, justify="right" if column else "left")
    rows = []
    for name in seconds:
        step = 1000 * statistics.median(seconds[name]) / steps
        times, ours = time_ratio(seconds, name, "by hand"), time_ratio(seconds, "Trainer", name)
        fast = fast_ratio(seconds, name, "by hand")
        more = tuple(1e6 * value / steps for value in time_difference(seconds, name, "by hand"))
        columns = (interval(times, 3), interval(fast, 3), interval(more, 0), interval(ours, 3))
        table.add_row(name, f"{step:.3f}", f"{1000 / step:.1f}", *columns)
        ratios = {"to_by_hand": times, "fast_blocks": fast, "us_more": more, "trainer_to_it": ours}
        rows.append({"name": name, "ms": step, **ratios})
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
    parser.add_argument("--device", help="resnet18 on this device in wall-clock time: cuda; cpu for a small trial")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    os.environ.setdefault("ACCELERATE_LOG_LEVEL", "ERROR")
    if options.device:
        on_device(options.device, options.rounds)
        return
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
