"""Each example runs on a small store of coloured squares, and learns to classify the colours."""

from __future__ import annotations

import importlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import largeds_native as lds

ROOT = Path(__file__).parent.parent.parent
COLOURS = {"blue": (30, 30, 220), "green": (20, 200, 40), "red": (230, 40, 20)}
SIDE = 32
SMALL: dict[str, Any] = {"batch_size": 8, "crop": SIDE}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """24 images of three classes."""
    folder = tmp_path_factory.mktemp("examples")
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(8):
            noisy = np.asarray(colour) + random.integers(-20, 21, (40, 44, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / "photos" / name / f"{i}.png")
    return str(lds.pack(folder / "photos", folder / "s.lds", resize=SIDE, crop=SIDE, progress=False).path)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def example(name: str) -> Any:
    return importlib.import_module(f"examples.{name}")


@pytest.mark.parametrize("name", ["plain_loop", "mixup_cutmix", "simclr"])
def test_loops(name: str, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    example(name).main(store, epochs=4, **SMALL)
    losses = [float(value) for value in re.findall(r"loss (\d+\.\d+)", capsys.readouterr().out)]
    assert len(losses) == 4
    assert min(losses[1:]) < losses[0]  # mixed labels, and changed colours, keep it noisy


def test_segmentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 <= example("segmentation").main(n=96, epochs=3) <= 1
    losses = [float(value) for value in re.findall(r"loss (\d+\.\d+)", capsys.readouterr().out)]
    assert len(losses) == 3
    assert losses[2] < losses[0]


def test_mix_stores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("mix_stores").main(tmp_path) < math.log(3)
    assert "['red', 'green', 'blue']" in capsys.readouterr().out


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_dataloader(workers: int, store: str) -> None:
    assert example("torch_dataloader").main(store, epochs=4, workers=workers, **SMALL) < math.log(3)


def test_timm(store: str) -> None:
    pytest.importorskip("timm")
    accuracy = example("timm_training").main(store, store, "test_resnet", epochs=1, side=SIDE, workers=0)
    assert 0 <= accuracy <= 1


@pytest.mark.filterwarnings(r"ignore::UserWarning:lightning\.")  # advice: on its defaults, and on workers
@pytest.mark.filterwarnings(
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"
)  # its own use of torch
def test_lightning(store: str, tmp_path: Path) -> None:
    """From a checkpoint within an epoch, it continues with the next batches."""
    L = pytest.importorskip("lightning")
    module = example("lightning_training")
    data = module.StoreData(store, store, **SMALL)

    class Recorder(L.Callback):
        def __init__(self) -> None:
            self.seen: list[list[int]] = []

        def on_train_batch_start(self, trainer: Any, model: Any, batch: Any, index: int) -> None:
            self.seen.append(batch[1].tolist() + batch[0].mean((1, 2, 3)).tolist())

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "5.ckpt")

    def fit(checkpoint: Path | None = None) -> tuple[Any, Any]:
        recorder = Recorder()
        kwargs = {"accelerator": "cpu", "default_root_dir": tmp_path, "logger": False, "enable_model_summary": False}
        trainer = L.Trainer(max_epochs=4, callbacks=[recorder], enable_checkpointing=False, **kwargs)
        torch.manual_seed(0)
        trainer.fit(module.Classifier(len(data.train.classes)), data, ckpt_path=checkpoint, weights_only=True)
        return trainer, recorder.seen

    whole, seen = fit()
    assert whole.callback_metrics["accuracy"] > 0.5
    assert len(seen) == 4 * 3
    _, rest = fit(tmp_path / "5.ckpt")
    assert rest == seen[5:]


def test_accelerate(store: str) -> None:
    pytest.importorskip("accelerate")
    assert example("accelerate_training").main(store, epochs=4, **SMALL) < math.log(3)


def test_torchrun(store: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(ROOT / "examples" / "torchrun_training.py"), store, "2", "4", str(SIDE)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command + arguments, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"epoch (\d): (\d+) images", done.stdout) == [("1", "24"), ("2", "24")]


FAILING = """
import os, sys
import largeds_native as lds
from examples.elastic_training import main

class Fail(lds.trainer.Callback):
    def on_step(self, trainer, result):
        if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and trainer.step == 3:
            os.kill(os.getpid(), 9)

loss = main(sys.argv[1], sys.argv[2], epochs=4, crop=32, callbacks=[Fail()])
print(f"restart {os.environ['TORCHELASTIC_RESTART_COUNT']}: loss {loss:.3f}", flush=True)
"""


def test_elastic(store: str, tmp_path: Path) -> None:
    """One of two processes is killed; torchrun starts both again, and they go on."""
    pytest.importorskip("torch", minversion="2.6")
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["--max-restarts", "1", str(script), store, str(tmp_path / "checkpoints")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command + arguments, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"restart 1: loss \d", done.stdout)) == 2
    assert len(list((tmp_path / "checkpoints").glob("step-*/run.pt"))) == 2


def test_each_is_short_and_says_how_to_run_it() -> None:
    files = sorted((ROOT / "examples").glob("*.py"))
    assert len(files) >= 8
    for file in files:
        text = file.read_text()
        assert len(text.splitlines()) < 60, f"{file} is too long to copy"
        assert text.startswith('"""')
    tested = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert all(file.stem in tested for file in files)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_packing_by_jobs(tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit")
    photos = Path(store).parent / "photos"
    example("pack_on_slurm").main(str(photos), str(tmp_path / "out.lds"), 2, threads=1)
    assert "24 images" in capsys.readouterr().out
    assert lds.open(tmp_path / "out.lds").metadata.codec == "jpeg"
