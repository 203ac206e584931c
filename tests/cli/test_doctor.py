"""`largeds doctor`: the estimate from known loops, the summary of known results, the command on small data."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.profile.doctor import summary
from largeds_native.profile.doctor.parts import PAGE, _pieces, read_rates, row_ranges
from largeds_native.profile.doctor.results import LoopResult, Part, PartKind, ProfileResults
from largeds_native.profile.doctor.throughput import Pass, estimate, record_passes

Largeds = Callable[..., tuple[int, str, str]]
PROGRAMS = Path(__file__).parents[1] / "programs"


# ---- the estimate ----------------------------------------------------------------------------------------------
def simulated(waits: list[float], step: float, size: int, ended: bool = False) -> Pass:
    done = np.cumsum(np.asarray(waits) + step).tolist()
    return Pass(done, waits, [size] * len(waits), done[-1] if ended else None)


def test_an_epoch_is_its_start_and_its_batches() -> None:
    """A worker takes 2 s to begin, then each batch 0.5 s, of which 0.1 s is the step."""
    waits = [2.0, 0.0, 0.4, *[0.4] * 30]
    found = estimate([simulated(waits, 0.1, 8)], 8, 8000, warmup=3)
    assert found.batch_seconds == pytest.approx(0.5)
    assert found.waiting == pytest.approx(0.8)
    assert found.start_seconds == pytest.approx(2.4 - 3 * 0.4)
    assert found.epoch_seconds == pytest.approx(1.2 + 1000 * 0.5)
    assert found.spread == pytest.approx(0, abs=1e-6)
    assert found.images_per_s == pytest.approx(16)


def test_bursts_are_not_cut() -> None:
    """Three workers deliver three batches at once every 3 s: a batch a second, wherever the window ends."""
    waits = [3.0, 0.0, 0.0] * 6
    for cut in range(12, 18):
        found = estimate([simulated(waits[:cut], 0.0, 4)], 4, 400, warmup=6, period=3)
        assert found.epoch_seconds == pytest.approx(100)


def test_whole_passes_are_not_extrapolated() -> None:
    """The first pass is a warm-up; of the others the mean counts, with all that an epoch begins and ends with."""
    passes = [simulated([seconds, 0.1], 0.2, 10, ended=True) for seconds in (9.0, 1.0, 1.2, 1.1, 1.1)]
    found = estimate(passes, 10, 20, warmup=1)
    assert found.epoch_seconds == pytest.approx(1.1 + 0.1 + 0.4)
    assert 0 < found.spread < 0.1


def test_what_one_window_cannot_know_is_not_a_number() -> None:
    assert math.isnan(estimate([simulated([0.5, 0.5], 0.1, 4)], 4, 40, warmup=1).spread)


def test_less_than_a_batch() -> None:
    one = Pass([0.2], [0.1], [3], 0.2)
    assert estimate([one] * 5, 64, 3, warmup=0).epoch_seconds == pytest.approx(0.2)


def test_watching_stops_in_the_middle() -> None:
    def step(batch: int) -> int:
        time.sleep(0.01)
        return batch

    passes = record_passes(lambda: iter([4] * 7), step, 0.2, warmup=2)
    assert 0.15 < sum(one.done[-1] for one in passes) < 5
    assert all(one.ended for one in passes[:-1])
    assert passes[0].images == [4] * 7
    assert 0.01 <= estimate(passes, 4, 28, warmup=2).batch_seconds < 0.1


# ---- the parts -------------------------------------------------------------------------------------------------
def test_pages_are_read_once() -> None:
    pieces = _pieces([("b", 0, 1), ("a", 10, 10), ("a", 30, PAGE), ("a", 5 * PAGE, 1)])
    assert pieces == [("a", 0, 2 * PAGE), ("a", 5 * PAGE, PAGE), ("b", 0, PAGE)]
    assert _pieces([("a", 0, 3 << 20)]) == [("a", i << 20, 1 << 20) for i in range(3)]


def test_rows_are_found_in_their_shards(tmp_path: Path) -> None:
    images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 3, 2, 2)
    store = lds.pack((images, np.arange(7)), tmp_path / "s.lds", resize=None, crop=None, shard_bytes=36, progress=False)
    for row, ((path, offset, size),) in enumerate(row_ranges(store, list(range(7)))):
        assert Path(path).read_bytes()[offset : offset + size] == images[row].tobytes()
    cold, warm, read = read_rates(row_ranges(store, list(range(7))), 1, 2)
    assert (cold > 0, warm > 0, read) == (True, True, 7)


# ---- the summary -----------------------------------------------------------------------------------------------
def results_of(baseline: float | None = None, packed: float = 100.0, **rates: float) -> ProfileResults:
    """1,000 images; rates of the parts by kind, and of the loops, in images/s."""
    kinds: dict[str, PartKind] = {"workers": "workers", "loader": "loader", "step": "step", "disk": "disk"}
    parts = [Part(kinds[name], name, rate) for name, rate in rates.items()]
    loops = [rate and LoopResult("epoch", rate, 0.0, 1000 / rate, 0.03, 0.5) for rate in (baseline, packed)]
    found = ProfileResults("photos", baseline is None, 1000, 3 << 10, 64, "m", "cpu", 2, parts=parts)
    found.baseline, found.packed = loops[0] or None, loops[1] or None
    found.pack_seconds = None if baseline is None else 12.0
    return found


def test_the_step_limits() -> None:
    found = results_of(packed=95, loader=5000, step=100, disk=20)
    assert summary.summary(found)["limit"] == "step"
    assert "An epoch of 1,000 images takes 11 s ±3%" in summary.sentence(found)
    assert "training step limits it with 100 images/s, where the loader alone makes 5,000" in summary.sentence(found)
    assert "Change nothing in loading" in summary.advice(found)
    assert "torch.compile" in summary.advice(dataclasses.replace(found, device="cuda"))


def test_the_loader_limits() -> None:
    found = results_of(packed=90, loader=100, step=5000, disk=20)
    assert summary.summary(found)["limit"] == "loader"
    assert "torch.bfloat16" in summary.advice(found)
    assert "as uint8" in summary.advice(dataclasses.replace(found, dtype="float32"))
    assert summary.summary(found)["first_packed_epoch_seconds"] == pytest.approx(50)


def test_larger_than_memory_the_disk_limits() -> None:
    found = dataclasses.replace(results_of(packed=90, loader=100, step=5000, disk=20), fits=False)
    assert summary.summary(found)["limit"] == "disk"
    assert summary.summary(found)["packed_epoch_seconds"] == pytest.approx(50)
    assert "order='block'" in summary.advice(found)


def test_what_packing_saves() -> None:
    found = results_of(baseline=10, packed=100, workers=10, loader=1000, step=120, disk=500)
    content = summary.summary(found)
    assert (content["limit"], content["saved_seconds_an_epoch"]) == ("workers", pytest.approx(90))
    assert (
        "packed it takes 10 s, and packing (12 s, once) has paid for itself after the first epoch"
        in content["sentence"]
    )
    assert "`largeds pack photos STORE.lds` (3.1 MB)" in content["advice"]
    slow = results_of(baseline=99, packed=100, workers=500, loader=1000, step=100, disk=500)
    assert "would save nothing" in summary.sentence(slow)
    assert "Change nothing in loading" in summary.advice(slow)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0123, "0.012 s"), (3.04, "3 s"), (42, "42 s"), (200, "3 min 20 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert summary.duration(seconds) == words


# ---- the command -----------------------------------------------------------------------------------------------
@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 48x40 JPEGs, one of them broken."""
    random = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 48, 3), np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "x.jpg").write_bytes(b"no image")
    return tmp_path / "photos"


def test_a_store(largeds: Largeds, store: Path) -> None:
    code, out, err = largeds("doctor", store, "--model", "none", "--seconds", "1", "-b", "2")
    assert (code, err) == (0, "")
    for words in (
        "memory copy",
        "rows from disk, cold",
        "Loader alone",
        "<- limits",
        "An epoch of 8 images takes",
        "lds.Loader(",
    ):
        assert words in out
    code, out, _ = largeds("doctor", store, "--model", "none", "--seconds", "1", "-b", "2", "--quiet")
    assert (code, out.count("\n")) == (0, 2)


def test_a_folder_and_a_model(largeds: Largeds, photos: Path) -> None:
    options = "--model squeezenet1_1 --resize 40 --crop 32 -b 4 --seconds 1 --threads 1 --json"
    code, out, err = largeds("doctor", photos, *options.split())
    assert (code, err) == (0, "")
    found = json.loads(out)
    kinds = {part["kind"] for part in found["parts"]}
    assert kinds == {"memory", "files", "disk", "cache", "decode", "pack", "workers", "gather", "loader", "step"}
    assert all(part["images_per_s"] > 0 for part in found["parts"])
    assert found["baseline"]["epoch_seconds"] > 0
    assert found["packed_epoch_seconds"] > 0
    assert found["limit"] in ("workers", "step")
    assert (found["images"], found["store_bytes"], found["fits"]) == (13, 13 * 3 * 32 * 32, True)
    assert found["pack_seconds"] > 0
    assert found["sentence"].startswith("An epoch of 13 images takes")


def test_images_without_labels(largeds: Largeds, photos: Path) -> None:
    options = "--model squeezenet1_1 --resize 40 --crop 32 -b 4 --seconds 1 --threads 1 --quiet"
    code, out, err = largeds("doctor", photos / "b", *options.split())
    assert (code, err) == (0, "")
    assert "An epoch of 6 images" in out


def test_a_script_is_watched_and_stopped(largeds: Largeds, store: Path) -> None:
    script = f"{PROGRAMS / 'train_slowly.py'} --epochs 9"
    code, out, err = largeds("doctor", store, "--seconds", "3", "--script", script, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["images"], found["batch_size"], found["limit"]) == (40, 4, "workers")
    assert found["baseline"]["waiting"] > 0.5
    assert found["baseline"]["epoch_seconds"] > 40 * 0.004
    assert "from lds.Loader" in found["advice"]


def test_a_script_that_ends_is_watched_to_its_end(largeds: Largeds, store: Path) -> None:
    script = f"{PROGRAMS / 'train_two_epochs.py'} {store}"
    code, out, err = largeds("doctor", store, "--seconds", "1", "--script", script, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["images"] == 8
    assert "train_two_epochs.py, Loader" in json.loads(out)["baseline"]["name"]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("well", "without iterating a torch DataLoader or a largeds_native Loader"),
        ("with an error", "ended with exit code 1: ValueError: no data"),
        ("with a message", "ended with exit code 1: no GPU"),
        ("never", "did not iterate a DataLoader or Loader for long enough"),
    ],
)
def test_a_script_without_a_loop(
    largeds: Largeds, store: Path, monkeypatch: pytest.MonkeyPatch, ends: str, words: str
) -> None:
    if ends == "never":
        monkeypatch.setattr("largeds_native.profile.doctor.script.TIMEOUT", 4)
    code, out, err = largeds("doctor", store, "--seconds", "1", "--script", f"{PROGRAMS / 'train_nothing.py'} '{ends}'")
    assert (code, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


def test_bad_input(largeds: Largeds, store: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    images = np.zeros((3, 3, 8, 8), np.uint8)
    lds.pack((images, np.arange(3)), tmp_path / "tiny.lds", resize=None, crop=None, progress=False)
    for arguments, code, words in (
        ((tmp_path / "absent",), 1, "does not exist"),
        ((tmp_path / "empty",), 1, "no image"),
        ((store, "--model", "resnet19"), 1, "no classifier 'resnet19'"),
        ((store, "--model", "inception_v3"), 1, "does not take images of 3 x 16 x 16"),
        ((store, "--script", "absent.py"), 1, "--script: expected a Python file"),
        ((store, "--script", "'"), 1, "--script: No closing quotation"),
        ((store, "--seconds", "0"), 2, "--seconds"),
        ((photos, "--resize", "big"), 2, "expected a side"),
        (
            (tmp_path / "tiny.lds", "--model", "resnet18", "-b", "1", "--seconds", "1"),
            1,
            "the loop failed: Expected more",
        ),
    ):
        found, out, err = largeds("doctor", *arguments)
        assert (found, out) == (code, ""), err
        assert words in " ".join(err.split())
        assert "Traceback" not in err
