"""Are the predictions of `largeds doctor` correct? Predicted and measured epochs take turns (target: within 15 %).

digits: a small CNN on 8x8 digits, batches of 32: whole short epochs are measured. resnet18: on ImageNet-like images of
112x112: the step limits. loader: 224x224 for a trivial model: the Loader limits. folder: the same model with
torchvision's ImageFolder in DataLoader: decoding limits. packed: the prediction for the same folder packed, from a
sample. script: a script with a DataLoader, run by `--script`.

python benchmarks/bench_doctor.py [--only loader] [--rounds 2] [--epochs 3] [--seconds 25]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from corpus import ROOT, digits, jpegs
from harness import RESULTS, console, options_parser
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

import largeds_native as lds
from largeds_native._internal.measure import machine_facts, write_json
from largeds_native.cli import demo_digits
from largeds_native.profile import classifier
from largeds_native.profile.doctor.config import ProfileConfig
from largeds_native.profile.doctor.run import profile_source, profile_store
from largeds_native.profile.doctor.script import run_script
from largeds_native.profile.doctor.summary import packed_epoch_seconds
from largeds_native.profile.peers import image_folder
from largeds_native.sources import as_source

CPU = torch.device("cpu")
SCRIPT = """
import sys
import torch
from torch.utils.data import DataLoader
sys.path.insert(0, {benchmarks!r})
from bench_doctor import trivial
from largeds_native.profile.peers import image_folder
from pathlib import Path

model = trivial(10)
optimizer = torch.optim.AdamW(model.parameters())
loader = DataLoader(image_folder(Path({folder!r}), normalised=True), 64, shuffle=True, num_workers={threads})
for _ in range(100):
    for images, labels in loader:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
"""


def trivial(classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))


def packed(source: Path, name: str, **options: Any) -> lds.Store:
    path = ROOT / name
    return lds.open(path) if path.exists() else lds.pack(source, path, progress=False, **options)


def config_of(make: Callable[..., nn.Module], batch: int, options: Any) -> ProfileConfig:
    return ProfileConfig(batch, CPU, options.threads, make, "model", seconds=options.seconds)


def real_epochs(batches: Iterable[Any], model: nn.Module, epochs: int) -> list[float]:
    """Seconds of each epoch of a plain loop, after a warm-up epoch."""
    optimizer, loss = torch.optim.AdamW(model.parameters()), nn.CrossEntropyLoss()
    seconds = []
    for _ in range(1 + epochs):
        start = time.perf_counter()
        for images, labels in batches:
            loss(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


@dataclass
class Case:
    """predict() and measure() return seconds of an epoch; predict also half the width of its interval."""

    predict: Callable[[], tuple[float, float]]
    measure: Callable[[], list[float]]


def on_store(store: lds.Store, make: Callable[..., nn.Module], batch: int, options: Any) -> Case:
    def predict() -> tuple[float, float]:
        loop = profile_store(config_of(lambda classes, *_: make(classes), batch, options), store).packed
        assert loop is not None
        return loop.epoch_seconds, loop.spread

    def measure() -> list[float]:
        kwargs = classifier.normalization(store) | {"augment": classifier.shift_and_flip(store)}
        with lds.Loader(store, batch, shuffle=True, threads=options.threads, **kwargs) as batches:
            return real_epochs(batches, make(len(store.classes)), options.epochs)

    return Case(predict, measure)


def on_folder(folder: Path, options: Any, as_packed: bool) -> Case:
    def predict() -> tuple[float, float]:
        config = config_of(lambda classes, *_: trivial(classes), 64, options)
        found = profile_source(config, as_source(folder), str(folder))
        assert found.baseline is not None
        assert found.packed is not None
        loop = found.packed if as_packed else found.baseline
        return packed_epoch_seconds(found) if as_packed else loop.epoch_seconds, loop.spread

    def measure() -> list[float]:
        files = DataLoader(
            image_folder(folder, normalised=True),
            64,
            shuffle=True,
            num_workers=options.threads,
            persistent_workers=True,
        )
        return real_epochs(files, trivial(10), min(options.epochs, 2))

    case = Case(predict, measure)
    if as_packed:
        case.measure = on_store(packed(folder, "doctor-224.lds"), trivial, 64, options).measure
    return case


def by_script(folder: Path, options: Any, where: Path) -> Case:
    (where / "train.py").write_text(
        SCRIPT.format(benchmarks=str(Path(__file__).parent), folder=str(folder), threads=options.threads)
    )

    def predict() -> tuple[float, float]:
        loop = run_script([str(where / "train.py")], options.seconds / 2, 1000, lambda text: None).loop
        return loop.epoch_seconds, loop.spread

    return Case(predict, on_folder(folder, options, as_packed=False).measure)


def cases(options: Any, where: Path) -> dict[str, Callable[[], Case]]:
    def resnet18(classes: int) -> nn.Module:
        from torchvision import models

        model: nn.Module = models.resnet18(num_classes=classes)
        return model

    def small() -> Case:
        store = packed(digits(), "doctor-digits.lds", resize=None, crop=None, mode="L")
        return on_store(store, lambda classes: demo_digits.network(), 32, options)

    def step_bound() -> Case:
        store = packed(jpegs(400), "doctor-112.lds", resize=128, crop=112)
        return on_store(store, resnet18, 32, options)

    return {
        "digits": small,
        "resnet18": step_bound,
        "loader": lambda: on_store(packed(jpegs(1000), "doctor-224.lds"), trivial, 64, options),
        "folder": lambda: on_folder(jpegs(1000), options, as_packed=False),
        "packed": lambda: on_folder(jpegs(1000), options, as_packed=True),
        "script": lambda: by_script(jpegs(1000), options, where),
    }


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--only", help="one of the cases")
    parser.add_argument("--epochs", type=int, default=3, help="measured in a round (3)")
    parser.add_argument("--seconds", type=float, default=25, help="of the doctor (25)")
    parser.set_defaults(rounds=2)
    options = parser.parse_args()
    facts = machine_facts()
    table = Table(
        "", "predicted s", "says", "measured s", "spread", "ratio", title="An epoch, by the doctor and by the clock"
    )
    with tempfile.TemporaryDirectory() as where:
        for name, make in cases(options, Path(where)).items():
            if options.only not in (None, name):
                continue
            case, predicted, measured, says = make(), [], [], []
            for _ in range(options.rounds):
                seconds, spread = case.predict()
                predicted.append(seconds)
                says.append(spread)
                measured += case.measure()
            ratio = statistics.median(predicted) / statistics.median(measured)
            noise = (max(measured) - min(measured)) / 2 / statistics.median(measured)
            table.add_row(
                name, f"{statistics.median(predicted):.3f}", f"±{max(says):.0%}", f"{statistics.median(measured):.3f}",
                f"±{noise:.0%}", f"{ratio:.2f}",
            )  # fmt: skip
            content = {"predicted": predicted, "says": says, "measured": measured, "ratio": ratio, "machine": facts}
            write_json(RESULTS / f"doctor-{name}.json", content)
    console.print(table)


if __name__ == "__main__":
    main()
