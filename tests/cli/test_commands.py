"""Each command does its work, in words and as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import largeds_native as lds

Run = Callable[..., tuple[int, str, str]]


def test_pack(run: Run, tree: Path, tmp_path: Path) -> None:
    code, out, err = run("pack", tree, tmp_path / "t.lds", "--resize", "18", "--crop", "16")
    assert (code, err) == (0, "")
    assert "packed 8 of 9 images" in out
    assert lds.open(tmp_path / "t.lds").shape == (3, 16, 16)


def test_pack_with_every_option(run: Run, tree: Path, tmp_path: Path) -> None:
    options = "--resize 18x20 --crop none --interpolation bicubic --decode scaled --dtype float32 --layout HWC"
    more = "--mean 0.5,0.5,0.5 --std 0.2,0.2,0.2 --shard-bytes 16K --threads 2 --no-resume --json"
    code, out, _ = run("pack", tree, tmp_path / "t.lds", *options.split(), *more.split())
    assert code == 0
    assert json.loads(out)["packed"] == 8
    store = lds.open(tmp_path / "t.lds")
    assert (store.shape, store.dtype, store.mean, len(store.shards)) == ((18, 20, 3), np.float32, (0.5, 0.5, 0.5), 3)


def test_pack_can_stop_at_the_first_bad_file(run: Run, tree: Path, tmp_path: Path) -> None:
    code, out, err = run("pack", tree, tmp_path / "t.lds", "--on-error", "raise", "--quiet")
    assert (code, out) == (1, "")
    assert "broken.jpg" in err
    assert err.count("\n") == 1


def test_info(run: Run, store: Path) -> None:
    code, out, _ = run("info", store)
    assert code == 0
    for words in ("8", "CHW 3 x 16 x 16, uint8", "label (int64)", "classes", "mean 0."):
        assert words in out
    assert run("info", store, "--classes")[1] == "cat  4\ndog  4\n"
    failures = run("info", store, "--failures")[1]
    assert "broken.jpg: " in failures
    assert failures.count("\n") == 1
    content = json.loads(run("info", store, "--json")[1])
    assert content["images per class"] == {"cat": 4, "dog": 4}
    assert content["shape"] == [3, 16, 16]
    assert content["failures"][0]["source"].endswith("broken.jpg")


def test_verify(run: Run, store: Path) -> None:
    assert run("verify", store)[:2] == (0, f"{store}: all 8 rows are as they were packed\n")
    images = store / "shard-00000" / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    code, out, _ = run("verify", store)
    assert code == 1
    assert out == f"{store}: 1 of 8 rows are damaged: 7\n"
    code, out, _ = run("verify", store, "--json")
    assert (code, json.loads(out)["damaged"]) == (1, [7])


def test_export(run: Run, store: Path, tmp_path: Path) -> None:
    assert run("export", store, tmp_path / "a.h5")[0] == 0
    code, out, _ = run("export", store, tmp_path / "b.h5", "--layout", "chunked", "--compression", "gzip", "--json")
    assert (code, Path(json.loads(out)["file"])) == (0, tmp_path / "b.h5")
    assert (
        run("export", store, tmp_path / "c.h5", "--rows", "6-7,0", "--mean", "0,0,0", "--std", "1,1,1", "-q")[1] == ""
    )
    images = np.asarray(lds.open(store).images)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b, h5py.File(tmp_path / "c.h5") as c:
        np.testing.assert_array_equal(a["data"][()], images)
        np.testing.assert_array_equal(b["data"][()], images)
        np.testing.assert_array_equal(c["data"][()], (images[[6, 7, 0]] / 255).astype(np.float32))


def test_info_of_a_mapped_file(run: Run, store: Path, tmp_path: Path) -> None:
    run("export", store, tmp_path / "a.h5")
    code, out, _ = run("info", tmp_path / "a.h5")
    assert code == 0
    assert "CHW 3 x 16 x 16, uint8" in out


@pytest.mark.parametrize("name", ["pack", "info", "verify", "train", "export", "demo"])
def test_help_teaches_with_examples(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"largeds {name}" in out.split("Examples:")[1]


def test_version(run: Run) -> None:
    assert run("--version")[0] == 0
