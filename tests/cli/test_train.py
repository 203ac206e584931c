"""`largeds train`: a torchvision model learns from a store, stops and resumes; and errors."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native.profile import classifier
from largeds_native.profile.classifier import accuracy
from tests.builders.stores import make_jpeg_store

Largeds = Callable[..., tuple[int, str, str]]
SMALL = ("--model", "squeezenet1_1", "--threads", "1", "--lr", "0.0003")


@pytest.fixture(scope="module")
def bright_and_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 3x32x32 in two classes, one bright, one dark: easy."""
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = (random.integers(0, 128, (40, 3, 32, 32)) + 127 * labels[:, None, None, None]).astype(np.uint8)
    folder = tmp_path_factory.mktemp("train")
    lds.pack((images, labels), folder / "s.lds", resize=None, crop=None, progress=False)
    return folder / "s.lds"


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def without_clock(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in logs.items() if k not in ("images_per_s", "data_share")} for logs in history]


def test_it_learns_and_reports(largeds: Largeds, bright_and_dark: Path) -> None:
    code, out, err = largeds(
        "train", bright_and_dark, *SMALL, "-e", "2", "-b", "8", "--accumulate", "2", "--val-split", "0.2"
    )
    assert code == 0
    for expected in (
        "squeezenet1_1, 723,522 parameters",
        "32 to train on, 8 held out",
        "2, 4 steps",
        "val accuracy",
        "waiting",
    ):
        assert expected in out
    assert err.startswith("epoch 1: ")
    assert err.count("\n") == 2


def test_every_option(largeds: Largeds, bright_and_dark: Path, tmp_path: Path) -> None:
    options = "--micro-batch auto --precision bf16 --no-augment --weight-decay 0 --device cpu --seed 3 --no-resume"
    code, out, err = largeds(
        "train", bright_and_dark, *SMALL, *options.split(), "--epochs", "1", "--batch-size", "16",
        "--val", bright_and_dark, "--checkpoint-dir", tmp_path / "run", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert (result["images"], result["held_out"], result["micro_batch"], result["classes"]) == (40, 40, 16, 2)
    assert {"val_loss", "val_accuracy", "train_loss"} <= set(result["history"][0])
    assert (tmp_path / "run" / "best.pt").exists()


def test_a_resumed_run_ends_like_an_uninterrupted_one(largeds: Largeds, bright_and_dark: Path, tmp_path: Path) -> None:
    """And with more --epochs it continues."""
    common = ("train", bright_and_dark, *SMALL, "-b", "8", "-e", "2", "--json", "--checkpoint-dir")
    whole = json.loads(largeds(*common, tmp_path / "whole")[1])
    largeds(*common, tmp_path / "cut")
    newest = max((tmp_path / "cut").glob("step-*.pt"))
    newest.unlink()  # as if killed before it was written
    again = json.loads(largeds(*common, tmp_path / "cut")[1])
    assert without_clock(again["history"]) == without_clock(whole["history"])
    ours, theirs = (torch.load(tmp_path / name / newest.name, weights_only=True)["model"] for name in ("cut", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    longer = json.loads(largeds(*common, tmp_path / "cut", "-e", "3")[1])
    assert len(longer["history"]) == 3
    code, _, err = largeds(*common, tmp_path / "cut", "--no-resume")
    assert code == 1
    assert "checkpoints of another run" in err


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ((), "nothing was saved: that needs --checkpoint-dir"),
        (("--checkpoint-dir", "run"), "no checkpoint was written to run yet"),
        (("--checkpoint-dir", "run", "--checkpoint-every", "2"), "continues from run/step-0000000002.pt"),
    ],
)
def test_ctrl_c_within_an_epoch(
    largeds: Largeds,
    bright_and_dark: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    left: str,
) -> None:
    """It says what was saved; and the same command says from where it goes on."""
    monkeypatch.chdir(tmp_path)
    calls: list[None] = []

    def accuracy_and_ctrl_c(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 5:  # the first one was the trial of the validation
            raise KeyboardInterrupt
        return accuracy(*arguments)

    command = ("train", bright_and_dark, *SMALL, "-b", "8", "-e", "1", *options)
    with monkeypatch.context() as patched:
        patched.setattr("largeds_native.cli.training.accuracy", accuracy_and_ctrl_c)
        code, _, err = largeds(*command)
    assert code == 130
    assert left in err
    if "--checkpoint-every" in options:
        assert largeds(*command)[2].startswith("resumed from run/step-0000000002.pt (epochs done: 0, steps done: 2)\n")


def test_sigterm_stops_between_two_steps(
    largeds: Largeds, bright_and_dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an exit code of its own; and the same command goes on to the same end."""
    common = ("train", bright_and_dark, *SMALL, "-b", "8", "-e", "2", "--stop-on-signal", "--json", "--checkpoint-dir")
    whole = json.loads(largeds(*common, tmp_path / "whole")[1])
    calls: list[None] = []

    def accuracy_and_signal(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 8:  # in the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return accuracy(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("largeds_native.cli.training.accuracy", accuracy_and_signal)
        code, out, err = largeds(*common, tmp_path / "cut")
    assert (code, out) == (75, "")
    assert "stopped by SIGTERM after step" in err
    assert f"saved in {tmp_path / 'cut'}: the same command goes on from there" in err
    again = json.loads(largeds(*common, tmp_path / "cut")[1])
    assert without_clock(again["history"]) == without_clock(whole["history"])


def test_grey_images_and_other_models(largeds: Largeds, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (9, 1, 32, 32), np.uint8), np.arange(9, dtype=np.uint8) % 3
    lds.pack((images, labels), tmp_path / "g.lds", resize=None, crop=None, mode="L", progress=False)
    for model in ("resnet18", "vit_b_32"):
        code, out, err = largeds(
            "train", tmp_path / "g.lds", "--model", model, "-e", "1", "-b", "4", "--val-split", "0", "-q"
        )
        assert (code, out) == (0, ""), err


def test_jpeg_rows(largeds: Largeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resized crops for training, centre crops for validation; beside raw rows of the same size."""
    store = make_jpeg_store(tmp_path, 12, ((60, 80), (90, 50), (48, 48)))
    made: list[tuple[Any, ...]] = []

    def loader(source: Any, batch_size: int, **options: Any) -> Any:
        made.append((source.path.name, options["augment"]))
        return lds.Loader(source, batch_size, **options)

    monkeypatch.setattr("largeds_native.cli.training.Loader", loader)
    code, out, err = largeds("train", store.path, *SMALL, "-e", "1", "-b", "4", "--val", store.path, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["images"] == json.loads(out)["held_out"] == 12
    resized, central = lds.Augment(resized_crop=50, flip=0.5), lds.Augment(resize=50, center_crop=50)
    assert made == [("j.lds", resized), ("j.lds", central)]
    raw = lds.pack(
        (np.zeros((4, 3, 50, 50), np.uint8), np.arange(4) % 2),
        tmp_path / "r.lds",
        resize=None,
        crop=None,
        progress=False,
    )
    del made[:]
    options = ("-e", "1", "-b", "4", "-q", "--no-augment")
    assert largeds("train", store.path, *SMALL, *options, "--val", raw.path) == (0, "", "")
    assert made == [("j.lds", central), ("r.lds", None)]
    assert largeds("train", raw.path, *SMALL, *options, "--val", store.path) == (0, "", "")
    wrong = make_jpeg_store(tmp_path, 4, ((60, 80),), channels=1, mode="L", name="grey.lds")
    sentence(largeds("train", store.path, *SMALL, "--val", wrong.path), 1, "expected the shape of")


def test_the_sizes_of_jpeg_rows(tmp_path: Path) -> None:
    large = make_jpeg_store(tmp_path, 3, ((400, 300), (240, 500), (600, 700)), name="large.lds")
    size = classifier.input_size(large)
    assert size == (224, 224)
    assert classifier.validation_augment(large, size) == lds.Augment(resize=256, center_crop=224)
    small = make_jpeg_store(tmp_path, 3, ((240, 500),), name="small.lds")
    assert classifier.validation_augment(small, (224, 224)) == lds.Augment(resize=240, center_crop=224)
    assert classifier.input_size(small, (128, 96)) == (128, 96)
    assert classifier.input_size(make_jpeg_store(tmp_path, 3, ((32, 40),), name="s.lds")) == (32, 32)


def sentence(result: tuple[int, str, str], code: int, expected: str) -> None:
    found, out, err = result
    assert (found, out) == (code, ""), err
    assert expected in " ".join(err.split())
    assert "Traceback" not in err


def test_bad_input(largeds: Largeds, bright_and_dark: Path, store: Path, tmp_path: Path) -> None:
    for arguments, code, expected in (
        ((tmp_path / "absent",), 1, "does not exist"),
        ((bright_and_dark, "--model", "resnet19"), 1, "no classifier 'resnet19'; did you mean resnet1"),
        ((bright_and_dark, "--model", "inception_v3"), 1, "inception_v3 does not take images of 3 x 32 x 32"),
        ((bright_and_dark, "--epochs", "0"), 2, "--epochs"),
        ((bright_and_dark, "--accumulate", "0"), 2, "--accumulate"),
        ((bright_and_dark, "--micro-batch", "some"), 2, "expected a number of images or auto"),
        ((bright_and_dark, *SMALL, "-b", "8", "--micro-batch", "16"), 1, "micro_batch=16 is larger than"),
        ((bright_and_dark, "--precision", "fp8"), 2, "fp8"),
        ((bright_and_dark, *SMALL, "--val", store), 1, "expected the shape of"),
        ((bright_and_dark, *SMALL, "--val-split", "0.01"), 1, "leaves no images"),
        ((bright_and_dark, *SMALL, "--device", "qpu"), 1, "--device"),
        ((bright_and_dark, "--stop-on-signal"), 2, "--stop-on-signal saves the run before it stops: give --checkpoint"),
    ):
        sentence(largeds("train", *arguments), code, expected)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(np.zeros((6, 2)), "expected one class number per image"), (np.arange(6) - 1, "found -1 to 4")],
)
def test_labels_that_are_not_classes(largeds: Largeds, tmp_path: Path, labels: Any, expected: str) -> None:
    images = np.zeros((6, 3, 32, 32), np.uint8)
    lds.pack((images, labels), tmp_path / "s.lds", resize=None, crop=None, progress=False)
    sentence(largeds("train", tmp_path / "s.lds", *SMALL), 1, expected)


def test_without_torchvision(largeds: Largeds, bright_and_dark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    sentence(largeds("train", bright_and_dark), 1, "the package 'torchvision' is not installed; type: pip install")


def test_out_of_memory_and_ctrl_c(largeds: Largeds, bright_and_dark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: BaseException) -> Callable[..., None]:
        def fit(*_: Any) -> None:
            raise error

        return fit

    monkeypatch.setattr(lds.Trainer, "fit", fail(torch.OutOfMemoryError("out of memory")))
    sentence(largeds("train", bright_and_dark, *SMALL), 1, "try a smaller --batch-size, or --micro-batch auto")
    monkeypatch.setattr(lds.Trainer, "fit", fail(KeyboardInterrupt()))
    sentence(largeds("train", bright_and_dark, *SMALL), 130, "stopped; nothing was saved")
