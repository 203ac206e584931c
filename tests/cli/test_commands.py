"""Each command does its work, with readable output and with JSON."""

import inspect
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.cli.pack import pack as pack_command
from tests.builders.trees import smooth_pixels
from tests.cli.conftest import start_process
from tests.sources.test_tar import make_tar

Largeds = Callable[..., tuple[int, str, str]]


def test_pack(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    code, out, err = largeds("pack", tree, tmp_path / "t.lds", "--resize", "18", "--crop", "16")
    assert (code, err) == (0, "")
    assert "packed 8 of 9 images" in out
    assert lds.open(tmp_path / "t.lds").shape == (3, 16, 16)


def test_pack_with_every_option(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    options = "--resize 18x20 --crop none --interpolation bicubic --decode scaled --dtype float32 --layout HWC"
    more = "--mean 0.5,0.5,0.5 --std 0.2,0.2,0.2 --shard-bytes 16K --threads 2 --no-resume --json"
    code, out, _ = largeds("pack", tree, tmp_path / "t.lds", *options.split(), *more.split())
    assert code == 0
    assert json.loads(out)["packed"] == 8
    store = lds.open(tmp_path / "t.lds")
    assert (store.shape, store.dtype, store.mean, len(store.shards)) == ((18, 20, 3), np.float32, (0.5, 0.5, 0.5), 3)


@pytest.mark.parametrize(
    ("options", "kwargs"),
    [
        (
            "--resize 20 --crop 18 --variants 3 --random-crop 16x14 --padding 2 --flip 0.5 --seed 7 --shuffle 3",
            {"resize": 20, "crop": 18, "variants": 3, "seed": 7, "shuffle": 3}
            | {"augment": lds.Augment(random_crop=(16, 14), padding=2, flip=0.5)},
        ),
        (
            "--resize none --crop none --variants 2 --resized-crop 12 --scale 0.2,0.9 --ratio 0.5,2 --mode L",
            {"resize": None, "crop": None, "variants": 2, "mode": "L"}
            | {"augment": lds.Augment(resized_crop=12, scale=(0.2, 0.9), ratio=(0.5, 2))},
        ),
        (
            "--resize 9 --crop none --no-antialias --no-exif-orientation --truncated keep --max-pixels 480",
            {"resize": 9, "crop": None, "antialias": False, "exif_orientation": False}
            | {"truncated": "keep", "max_pixels": 480},
        ),
    ],
)
def test_a_store_packed_by_the_command_equals_one_packed_by_the_function(
    largeds: Largeds, tree: Path, tmp_path: Path, options: str, kwargs: dict[str, Any]
) -> None:
    code, _, err = largeds("pack", tree, tmp_path / "command.lds", *options.split(), "-q")
    assert (code, err) == (0, "")
    lds.pack(tree, tmp_path / "function.lds", progress=False, **kwargs)
    ours, theirs = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file() and path.name != "report.json"
        }
        for name in ("command.lds", "function.lds")
    )
    assert ours == theirs


def test_pack_of_jpeg_rows(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    options = ["--codec", "jpeg", "--resize", "18", "--quality", "80", "--restarts"]
    code, out, err = largeds("pack", tree, tmp_path / "t.lds", *options)
    assert (code, err) == (0, "")
    assert "packed 8 of 9 images" in out
    assert "kept: shrunk 8" in out
    assert "of rows" in out
    assert "PSNR: " in out
    code, out, _ = largeds("pack", tree, tmp_path / "j.lds", "--codec", "jpeg", "--json")
    assert code == 0
    report = json.loads(out)
    assert sum(report["kept"].values()) == report["packed"] == 8
    assert report["row_bytes"] > 0
    code, _, err = largeds("pack", tree, tmp_path / "no.lds", "--codec", "jpeg", "--crop", "16")
    assert code == 1
    assert "the loader crops them" in err
    code, _, err = largeds("pack", tree, tmp_path / "no.lds", "--quality", "80")
    assert code == 1
    assert "raw rows are not encoded" in err


def test_pack_has_every_option_of_the_function() -> None:
    of_function = set(inspect.signature(lds.pack).parameters) - {"augment", "progress"}
    of_function |= set(inspect.signature(lds.Augment).parameters) - {"center_crop"}  # that is --crop
    assert of_function == set(inspect.signature(pack_command).parameters) - {
        "quiet",
        "json",
        "path",
        "label",
        "from_store",
        "part",
        "finish",
        "address",
    }


def test_parts_of_a_pack(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "t.lds", ["--resize", "18", "--crop", "16", "--shard-bytes", "1K"]
    code, said, err = largeds("pack", tree, out, *options, "--part", "2/3")
    assert (code, err) == (0, "")
    assert said == "part 2 of 3 is packed: 3 shards; 3 of 9 are ready: the other parts are missing\n"
    code, said, err = largeds("pack", tree, out, *options, "--finish")
    assert (code, said) == (1, "")
    assert "6 of the 9 shards are not packed yet" in err
    assert ": 0, 1, 2, 6, 7, 8. Pack them" in err
    for part in ("1/4", "2/3", "3/3", "3/4"):  # they overlap
        code, said, _ = largeds("pack", tree, out, *options, "--part", part, "--json")
        assert code == 0
    assert json.loads(said) == {"part": 3, "parts": 4, "shards": 2, "packed": 0, "ready": 8, "of": 9}
    assert "1 of the 9 shards are not packed yet" in largeds("pack", tree, out, *options, "--finish")[2]
    said = largeds("pack", tree, out, *options, "--part", "3/9")[1]
    assert said.endswith("9 of 9 are ready: largeds pack ... --finish makes the store\n")
    assert "packed 8 of 9 images" in largeds("pack", tree, out, *options, "--finish")[1]
    assert largeds("pack", tree, out, *options, "--part", "5/9")[0] == 0  # the store is there
    for wrong in ("0/3", "4/3", "3", "a/b", "1/0"):
        code, _, err = largeds("pack", tree, tmp_path / "x.lds", "--part", wrong)
        assert code == 2
        assert "expected one of N, from 1/N to N/N" in " ".join(err.split())
    for several in (["--part", "1/2", "--finish"], ["--finish", "--engine", "ray"]):
        assert "found several" in largeds("pack", tree, tmp_path / "x.lds", *several)[2]
    assert "pass --engine ray too" in " ".join(largeds("pack", tree, out, "--address", "auto")[2].split())
    assert largeds("pack", tree, out, "--part", "1/2", "--no-resume")[0] == 2


def test_pack_can_stop_at_the_first_bad_file(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    code, out, err = largeds("pack", tree, tmp_path / "t.lds", "--on-error", "raise", "--quiet")
    assert (code, out) == (1, "")
    assert "broken.jpg" in err
    assert err.count("\n") == 1


def test_info(largeds: Largeds, store: Path) -> None:
    code, out, _ = largeds("info", store)
    assert code == 0
    for expected in ("8", "CHW 3 x 16 x 16, uint8", "label (int64)", "classes", "mean 0."):
        assert expected in out
    assert largeds("info", store, "--classes")[1] == "cat  4\ndog  4\n"
    failures = largeds("info", store, "--failures")[1]
    assert "broken.jpg: " in failures
    assert failures.count("\n") == 1
    content = json.loads(largeds("info", store, "--json")[1])
    assert content["images per class"] == {"cat": 4, "dog": 4}
    assert content["shape"] == [3, 16, 16]
    assert content["failures"][0]["source"].endswith("broken.jpg")


def test_info_about_jpeg_rows(largeds: Largeds, jpeg_stores: dict[str, Path]) -> None:
    code, out, _ = largeds("info", jpeg_stores["many"])
    assert code == 0
    assert "JPEG 48x48 to 90x80 (height x width), RGB" in out
    assert "in 1 shard" in out
    assert largeds("info", jpeg_stores["many"], "--classes")[1] == "0  6\n1  6\n"
    assert largeds("info", jpeg_stores["many"], "--failures")[:2] == (0, "no image failed\n")
    content = json.loads(largeds("info", jpeg_stores["many"], "--json")[1])
    found = {name: content[name] for name in ("codec", "images", "shape", "sizes", "shards")}
    sizes = {"min": [48, 48], "max": [90, 80]}
    assert found == {"codec": "jpeg", "images": 12, "shape": None, "sizes": sizes, "shards": 1}
    assert content["bytes"] == sum(len(lds.open(jpeg_stores["many"]).encoded(i)) for i in range(12))
    content = json.loads(largeds("info", jpeg_stores["one"], "--json")[1])
    assert (content["shape"], content["sizes"]["min"]) == ([3, 60, 80], [60, 80])


def test_verify_jpeg_rows(largeds: Largeds, jpeg_stores: dict[str, Path], tmp_path: Path) -> None:
    store = Path(shutil.copytree(jpeg_stores["many"], tmp_path / "s.lds"))
    assert largeds("verify", store)[:2] == (0, f"{store}: all 12 rows are as they were packed\n")
    _, offset, size = lds.open(store).file_range(3)
    images = store / "shard-00000" / "images.bin"
    data = bytearray(images.read_bytes())
    data[offset + size // 2] ^= 1
    images.write_bytes(data)
    assert largeds("verify", store)[:2] == (1, f"{store}: 1 of 12 rows are damaged: 3\n")


def test_verify(largeds: Largeds, store: Path) -> None:
    assert largeds("verify", store)[:2] == (0, f"{store}: all 8 rows are as they were packed\n")
    images = store / "shard-00000" / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    code, out, _ = largeds("verify", store)
    assert code == 1
    assert out == f"{store}: 1 of 8 rows are damaged: 7\n"
    code, out, _ = largeds("verify", store, "--json")
    assert (code, json.loads(out)["damaged"]) == (1, [7])


def test_export(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    assert largeds("export", store, tmp_path / "a.h5")[0] == 0
    code, out, _ = largeds("export", store, tmp_path / "b.h5", "--layout", "chunked", "--compression", "gzip", "--json")
    assert (code, Path(json.loads(out)["file"])) == (0, tmp_path / "b.h5")
    assert (
        largeds("export", store, tmp_path / "c.h5", "--rows", "6-7,0", "--mean", "0,0,0", "--std", "1,1,1", "-q")[1]
        == ""
    )
    images = np.asarray(lds.open(store).images)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b, h5py.File(tmp_path / "c.h5") as c:
        np.testing.assert_array_equal(a["data"][()], images)
        np.testing.assert_array_equal(b["data"][()], images)
        np.testing.assert_array_equal(c["data"][()], (images[[6, 7, 0]] / 255).astype(np.float32))


def test_export_of_jpeg_rows(largeds: Largeds, jpeg_stores: dict[str, Path], tmp_path: Path) -> None:
    many = jpeg_stores["many"]
    assert largeds("export", many, tmp_path / "a.h5", "--resize", "40", "--crop", "32", "-q") == (0, "", "")
    assert largeds("export", many, tmp_path / "b.h5", "--encoded", "--rows", "3", "-q") == (0, "", "")
    assert largeds("export", jpeg_stores["one"], tmp_path / "c.h5", "-q") == (0, "", "")
    store = lds.open(many)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b, h5py.File(tmp_path / "c.h5") as c:
        np.testing.assert_array_equal(a["data"][()], store.gather(range(12), resize=40, crop=32).numpy())
        assert b["data"][0].tobytes() == store.encoded(3)
        np.testing.assert_array_equal(c["data"][()], np.asarray(lds.open(jpeg_stores["one"])))
    code, _, err = largeds("export", many, tmp_path / "d.h5")
    assert (code, err.count("\n")) == (1, 1)
    assert "resize=256, crop=224" in err


def test_import(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    largeds("export", store, tmp_path / "a.h5")
    largeds("export", store, tmp_path / "b.h5", "--rows", "2-4", "--layout", "chunked")
    images, labels = np.asarray(lds.open(store).images), np.asarray(lds.open(store)["label"])
    code, out, err = largeds("import", tmp_path / "a.h5", tmp_path / "a.lds")
    assert (code, err) == (0, "")
    assert "8 images" in out
    np.testing.assert_array_equal(lds.open(tmp_path / "a.lds").images, images)
    code, out, _ = largeds("import", tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "both.lds", "--json")
    assert (code, json.loads(out)["images"]) == (0, 11)
    both = lds.open(tmp_path / "both.lds")
    np.testing.assert_array_equal(both.images, np.concatenate([images, images[2:5]]))
    np.testing.assert_array_equal(both["label"], np.concatenate([labels, labels[2:5]]))
    assert both.classes == ["cat", "dog"]


def test_import_of_any_file(largeds: Largeds, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((5, 4, 3, 3))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train/x"], file["train/y"] = x, np.arange(5)
    common = ("import", tmp_path / "x.h5")
    options = "--images train/x --labels train/y --dtype float32 --layout HWC --shard-bytes 200 --quiet"
    assert largeds(*common, tmp_path / "x.lds", *options.split()) == (0, "", "")
    store = lds.open(tmp_path / "x.lds")
    assert (store.shape, store.dtype, len(store.shards)) == ((4, 3, 3), np.float32, 5)
    np.testing.assert_array_equal(store.images[:], x.astype(np.float32))
    np.testing.assert_array_equal(store["label"][:], np.arange(5))
    options = "--images train/x --labels none --dtype float16 --layout HWC"
    assert largeds(*common, tmp_path / "y.lds", *options.split())[0] == 0
    assert lds.open(tmp_path / "y.lds").fields == ()


def test_info_of_a_mapped_file_as_json(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    lds.open(store).to_hdf5(tmp_path / "s.h5", progress=False)
    code, out, err = largeds("info", tmp_path / "s.h5", "--json")
    assert (code, err) == (0, "")
    assert (json.loads(out)["images"], json.loads(out)["failures"]) == (8, None)
    assert "no list of samples" in largeds("info", tmp_path / "s.h5", "--json", "--failures")[2]


def test_info_of_a_mapped_file(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    largeds("export", store, tmp_path / "a.h5")
    code, out, _ = largeds("info", tmp_path / "a.h5")
    assert code == 0
    assert "CHW 3 x 16 x 16, uint8" in out


@pytest.mark.parametrize("name", ["pack", "info", "verify", "train", "view", "bench", "export", "import", "demo"])
def test_help_teaches_with_examples(largeds: Largeds, name: str) -> None:
    code, out, _ = largeds(name, "--help")
    assert code == 0
    assert f"largeds {name}" in out.split("Examples:")[1]


def test_the_top_level_help_names_exit_codes(largeds: Largeds) -> None:
    code, out, _ = largeds("--help")
    assert code == 0
    for number in "0", "1", "2", "130", "141":
        assert re.search(rf"^ *{number}  ", out.split("Exit codes:")[1], re.MULTILINE)


def test_completion() -> None:
    """As called by the shell after --install-completion."""
    environment = {"_LARGEDS_COMPLETE": "complete_bash", "COMP_WORDS": "largeds ver", "COMP_CWORD": "1"}
    with start_process(env=environment) as asked:
        assert asked.communicate(timeout=60) == ("verify\n", "")
    # the shell is named: it need not be that of the test's own parents
    with start_process("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}) as shown:
        assert "_LARGEDS_COMPLETE=complete_bash" in shown.communicate(timeout=60)[0]


def test_version(largeds: Largeds) -> None:
    assert largeds("--version")[0] == 0


def test_failures_are_said_and_counted(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.lds"
    code, text, _ = largeds("pack", tree, out)
    assert code == 0
    assert text.splitlines()[-1] == f"1 of 9 images failed and were left out: see largeds info {out} --failures"
    assert "1 images were left out: see --failures" in largeds("info", out)[1]
    assert json.loads(largeds("info", out, "--json")[1])["failed"] == 1
    code, _, err = largeds("pack", tree, tmp_path / "strict.lds", "--max-failures", "0")
    assert code == 1
    assert "1 of the 9 images" in err
    assert not (tmp_path / "strict.lds/manifest.json").exists()


def test_classes_of_another_store(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    code, _, _ = largeds("pack", tree, tmp_path / "train.lds", "-q")
    for name, classes in (("a", tmp_path / "train.lds"), ("b", "ant,cat,dog")):
        code, _, err = largeds("pack", tree, tmp_path / name, "--classes", classes, "-q")
        assert (code, err) == (0, "")
    assert lds.open(tmp_path / "a").classes == lds.open(tmp_path / "train.lds").classes
    assert lds.open(tmp_path / "b").classes == ["ant", "cat", "dog"]


def test_a_table_and_several_tars(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    picture = next((tree / "cat").iterdir())
    shutil.copytree(tree, tmp_path / "copy")
    (tmp_path / "list.csv").write_text(f"picture,species,label\ncopy/cat/{picture.name},cat,7\n")
    arguments = ("--path", "picture", "--label", "species")
    code, text, err = largeds("pack", tmp_path / "list.csv", tmp_path / "t.lds", *arguments)
    assert (code, err) == (0, "")
    assert "images are column 'picture', labels column 'species'" in text
    code, _, err = largeds("pack", tree, tmp_path / "u.lds", *arguments)
    assert code == 1
    assert "--path and --label name columns of a table" in err
    tars = [make_tar(tmp_path / f"{i}.tar", {f"{i}.png": encode_png(i)}) for i in range(3)]
    assert largeds("pack", *tars, tmp_path / "tars.lds", "-q")[0] == 0
    assert largeds("pack", str(tmp_path / "*.tar"), tmp_path / "glob.lds", "-q")[0] == 0
    assert len(lds.open(tmp_path / "tars.lds")) == len(lds.open(tmp_path / "glob.lds")) == 3


def encode_png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(smooth_pixels(seed)).save(file, "PNG")
    return file.getvalue()


def test_several_stores(largeds: Largeds, tree: Path, store: Path, tmp_path: Path) -> None:
    """They are joined: each failure and each damage names its store."""
    other = lds.pack(tree, tmp_path / "other.lds", codec="jpeg", progress=False).path
    code, out, err = largeds("info", store, other, "--json")
    assert code == 0, err
    content = json.loads(out)
    assert (content["images"], content["shards"], content["failed"]) == (16, 2, 2)
    assert content["images per class"] == {"cat": 8, "dog": 8}
    assert [failure["store"] for failure in content["failures"]] == [str(store), str(other)]
    code, out, err = largeds("info", store, other, "--failures")
    assert out.splitlines()[1].startswith(f"{other}: dog/broken.jpg: "), err
    code, out, err = largeds("verify", store, other, "--sources")
    assert (code, err) == (0, "")
    assert out.startswith(f"{store}, {other}: all 16 rows are as they were packed; 18 sources decode")
    for name in ("both.png", "both.html"):
        code, out, err = largeds("view", store, other, tmp_path / name, "--json")
        assert code == 0, err
        assert len(json.loads(out)["rows"]) == 16
    page = (tmp_path / "both.html").read_text()
    assert "dog/3.png" in page
    code, out, err = largeds("view", store, tmp_path / "out.jpg")
    assert code != 0
    assert "out.jpg" in err
    array = tmp_path / "images.npy"
    np.save(array, np.zeros((2, 3, 16, 16), np.uint8))
    code, out, err = largeds("verify", store, array)
    assert (code, out) == (1, "")
    assert "fields of" in err
