"""`largeds doctor` on small data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native._internal.measure import contention
from tests.sources.test_tar import make_tar

Largeds = Callable[..., tuple[int, str, str]]
PROGRAMS = Path(__file__).parents[1] / "programs"


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


@pytest.fixture
def others_take(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says what part of the processors other programs take."""

    def take(share: float) -> None:
        monkeypatch.setattr(contention.Contention, "share", lambda _: share)

    return take


def test_a_busy_machine_is_mentioned(largeds: Largeds, store: Path, others_take: Any) -> None:
    others_take(0.5)
    code, out, _ = largeds("doctor", store, "--model", "none", "--seconds", "1", "-b", "2", "--quiet")
    assert (code, out.count("\n")) == (0, 3)
    assert "Other programs took 50% of the processors meanwhile" in out


def test_a_store(largeds: Largeds, store: Path, others_take: Any) -> None:
    others_take(0.01)
    code, out, err = largeds("doctor", store, "--model", "none", "--seconds", "1", "-b", "2")
    assert (code, err) == (0, "")
    for expected in (
        "memory copy",
        "rows from disk, cold",
        "Loader alone",
        "<- limits",
        "An epoch of 8 images takes",
        "lds.Loader(",
    ):
        assert expected in out
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
    raw, jpeg = found["rows"]
    assert (raw["codec"], raw["image_bytes"], jpeg["codec"]) == ("raw", 3 * 32 * 32, "jpeg")
    assert found["recommended_rows"] in ("raw", "jpeg")


@pytest.mark.parametrize("sizes", ["many", "one"])
def test_jpeg_rows(largeds: Largeds, jpeg_stores: dict[str, Path], sizes: str) -> None:
    options = "--model squeezenet1_1 --crop 32 -b 4 --seconds 1 --threads 1 --json"
    code, out, err = largeds("doctor", jpeg_stores[sizes], *options.split())
    assert (code, err) == (0, "")
    found = json.loads(out)
    kinds = {part["kind"] for part in found["parts"]}
    assert kinds == {"memory", "disk", "cache", "gather", "loader", "step"}
    assert all(part["images_per_s"] > 0 for part in found["parts"])
    jpeg, raw = found["rows"]
    assert (jpeg["codec"], jpeg["image_bytes"]) == ("jpeg", lds.open(jpeg_stores[sizes]).row_bytes)
    assert (raw["codec"], raw["image_bytes"]) == ("raw", 3 * 32 * 32)
    assert raw["disk"] == pytest.approx(jpeg["disk"] * jpeg["image_bytes"] / raw["image_bytes"])
    code, out, _ = largeds("doctor", jpeg_stores[sizes], "--model", "none", "--seconds", "1", "-b", "2")
    assert code == 0
    for expected in ("gather: decode, centre crop", "Loader alone, raw rows", "Take "):
        assert expected in out


def test_tar_files_by_a_pattern(largeds: Largeds, photos: Path, tmp_path: Path) -> None:
    for i in range(2):
        images = {f"{i}{n}.jpg": file.read_bytes() for n, file in enumerate(sorted((photos / "b").iterdir())[i::2])}
        make_tar(tmp_path / f"t-{i}.tar", images)
    options = "--model none --resize 40 --crop 32 -b 4 --seconds 1 --threads 1 --quiet"
    code, out, err = largeds("doctor", tmp_path / "t-{0..1}.tar", *options.split())
    assert (code, err) == (0, "")
    assert "An epoch of 6 images" in out


def test_images_without_labels(largeds: Largeds, photos: Path) -> None:
    options = "--model squeezenet1_1 --resize 40 --crop 32 -b 4 --seconds 1 --threads 1 --quiet"
    code, out, err = largeds("doctor", photos / "b", *options.split())
    assert (code, err) == (0, "")
    assert "An epoch of 6 images" in out


def test_a_script_is_measured_and_stopped(largeds: Largeds, store: Path) -> None:
    script = f"{PROGRAMS / 'train_slowly.py'} --epochs 9"
    code, out, err = largeds("doctor", store, "--seconds", "3", "--script", script, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["images"], found["batch_size"], found["limit"]) == (40, 4, "workers")
    assert found["baseline"]["waiting"] > 0.5
    assert found["baseline"]["epoch_seconds"] > 40 * 0.004
    assert "from lds.Loader" in found["advice"]


def test_a_script_that_ends_is_measured_to_its_end(largeds: Largeds, store: Path) -> None:
    script = f"{PROGRAMS / 'train_two_epochs.py'} {store}"
    code, out, err = largeds("doctor", store, "--seconds", "1", "--script", script, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["images"] == 8
    assert "train_two_epochs.py, Loader" in json.loads(out)["baseline"]["name"]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ("well", "without iterating a torch DataLoader or a largeds_native Loader"),
        ("with an error", "ended with exit code 1: ValueError: no data"),
        ("with a message", "ended with exit code 1: no GPU"),
        ("never", "did not iterate a DataLoader or Loader for long enough"),
    ],
)
def test_a_script_without_a_loop(
    largeds: Largeds, store: Path, monkeypatch: pytest.MonkeyPatch, ends: str, expected: str
) -> None:
    if ends == "never":
        monkeypatch.setattr("largeds_native.profile.doctor.script.TIMEOUT", 4)
    code, out, err = largeds("doctor", store, "--seconds", "1", "--script", f"{PROGRAMS / 'train_nothing.py'} '{ends}'")
    assert (code, out) == (1, "")
    assert expected in err
    assert err.count("\n") == 1


def test_urls(largeds: Largeds, store: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lds.push(store, "memory://doctor/s.lds", progress=False)
    fits = largeds("doctor", "memory://doctor/s.lds")
    assert fits[:2] == (1, "")
    assert "memory://doctor/s.lds has 8 images, 6.1 kB, and the disk of this folder has" in fits[2]
    assert "`largeds pull memory://doctor/s.lds STORE.lds`, and give the copy" in fits[2]
    assert "copy a part of the images" in largeds("doctor", "memory://doctor/photos")[2]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "order='block', block='shard'" in largeds("doctor", "memory://doctor/s.lds")[2]


def test_a_disk_without_room(largeds: Largeds, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("largeds_native.profile.doctor.rows._has_room", lambda _, row_bytes: row_bytes < 3 * 200 * 200)
    options = "--model none --resize 200x200 --crop none -b 4 --seconds 1 --threads 1 --json"
    code, out, err = largeds("doctor", photos, *options.split())
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [rows["has_room"] for rows in found["rows"]] == [False, True]
    assert found["recommended_rows"] == "jpeg"
    assert "that are free here" in found["rows_sentence"]


def test_bad_input(largeds: Largeds, store: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    images = np.zeros((3, 3, 8, 8), np.uint8)
    lds.pack((images, np.arange(3)), tmp_path / "tiny.lds", resize=None, crop=None, progress=False)
    for arguments, code, expected in (
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
        assert expected in " ".join(err.split())
        assert "Traceback" not in err
