"""`largeds view`: the sheet has the store's pixels and labels; the page works in a browser, also with hostile text."""

from __future__ import annotations

import io
import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from largeds_native.store.display import picture_of
from largeds_native.view import sheet
from largeds_native.view.collect import tile_rows_of
from largeds_native.view.files import thumbnail
from largeds_native.view.tiles import printable
from tests.builders.stores import make_jpeg_store
from tests.cli.browser import Browser
from tests.cli.conftest import start_process
from tests.cli.test_bad_input import sentence

Largeds = Callable[..., tuple[int, str, str]]
HOSTILE = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def contains(picture: Any, tile: Any) -> bool:
    """Whether the picture contains the tile, bit for bit."""
    height, width = tile.shape[:2]
    starts = np.argwhere((picture[:, :, :3] == tile[0, 0]).all(-1))
    return any(np.array_equal(picture[y : y + height, x : x + width], tile) for y, x in starts)


def magnified(image: Any, layout: str = "CHW") -> Any:
    """A small image as on a sheet, with each pixel as a square."""
    pixels = np.moveaxis(image, 0, -1) if layout == "CHW" else image
    factor = sheet.SIDE // max(pixels.shape[:2])
    return np.broadcast_to(pixels.repeat(factor, 0).repeat(factor, 1), (*np.multiply(pixels.shape[:2], factor), 3))


def test_a_sheet_shows_the_rows(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    code, said, err = largeds("view", store, out, "--rows", "6-7,1", "--json")
    assert (code, err) == (0, "")
    assert json.loads(said) == {"file": str(out), "bytes": out.stat().st_size, "rows": [6, 7, 1], "failures": 0}
    images = lds.open(store).images
    picture = pixels(out)
    assert [contains(picture, magnified(images[i])) for i in (6, 7, 1, 0)] == [True, True, True, False]


def test_rows_are_chosen_by_class_or_spread_evenly(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    def rows(*options: str) -> list[int]:
        found: list[int] = json.loads(largeds("view", store, tmp_path / "a.png", "--json", *options)[1])["rows"]
        return found

    assert rows() == list(range(8))
    assert rows("-n", "3") == [0, 3, 7]
    assert rows("--class", "dog") == rows("--class", "1") == [4, 5, 6, 7]
    assert rows("--class", "dog", "--class", "cat", "-n", "5") == [4, 7, 0, 1, 3]


def test_the_default_is_a_file_here(
    largeds: Largeds, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert largeds("view", store)[1].startswith("t.png: ")
    assert largeds("view", store, "--html")[1].startswith("t.html: ")
    assert largeds("view", store, "-q")[:2] == (0, "")  # again: the newer picture takes the name
    assert {path.suffix for path in tmp_path.iterdir()} == {".lds", ".png", ".html"}


@pytest.mark.parametrize(
    "options", [{"layout": "HWC"}, {"dtype": "float32"}, {"dtype": "float16"}, {"mode": "L"}, {"dtype": "baked"}]
)
def test_every_kind_of_store_is_shown(largeds: Largeds, tree: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    if options.get("dtype") == "baked":
        options = {"dtype": "float32", "layout": "HWC", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.1)}
    size: dict[str, Any] = {"resize": 18, "crop": 16, "progress": False}
    plain = lds.pack(tree, tmp_path / "plain.lds", **size, mode=options.get("mode", "RGB"))
    lds.pack(tree, tmp_path / "s.lds", **size, **options)
    assert largeds("view", tmp_path / "s.lds", tmp_path / "s.png", "--rows", "2")[0] == 0
    assert contains(pixels(tmp_path / "s.png"), magnified(plain.images[2]))


def test_floats_without_a_scale_are_stretched_and_nan_is_black() -> None:
    row = np.array([[[-3.0, 5.0], [np.nan, 1.0]]], np.float32)
    assert np.asarray(picture_of(row, "CHW")).tolist() == [[0, 255], [0, 128]]


def test_augmented_variants_are_the_loaders(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    options = ["--random-crop", "16", "--padding", "4", "--flip", "0.5", "--seed", "3", "--variants", "3", "-n", "2"]
    assert largeds("view", store, tmp_path / "a.png", *options)[0] == 0
    picture = pixels(tmp_path / "a.png")
    augment = lds.Augment(random_crop=16, padding=4, flip=0.5)
    opened = lds.open(store)
    import torch

    with lds.Loader(opened, 8, shuffle=True, seed=3, augment=augment, dtype=torch.uint8, fields=()) as loader:
        for epoch in range(3):
            order = list(loader.plan.order.wrapped(epoch, 0, 8))
            ((batch,),) = loader
            for row in (0, 7):
                assert contains(picture, magnified(batch.numpy()[order.index(row)]))
    assert all(contains(picture, magnified(opened.images[row])) for row in (0, 7))


def test_variants_of_16_bits_are_as_visible_as_their_images(largeds: Largeds, tmp_path: Path) -> None:
    """A Loader gives x / 65535, which is nearly black for a tomogram."""
    (tmp_path / "ct").mkdir()
    ramp = 1000 + 7 * np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "ct" / "0.png")
    lds.pack(tmp_path / "ct", tmp_path / "s.lds", dtype="uint16", resize=None, crop=None, progress=False)
    options = ("--flip", "1", "--variants", "1", "--json")
    assert largeds("view", tmp_path / "s.lds", tmp_path / "a.png", *options)[0] == 0
    shown = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for image in (shown, shown[:, :, ::-1]):
        assert contains(pixels(tmp_path / "a.png"), magnified(image))


def test_jpeg_rows_of_many_sizes_are_shown_whole(
    largeds: Largeds, jpeg_stores: dict[str, Path], tmp_path: Path
) -> None:
    options = ["--rows", "0-2", "--resized-crop", "32", "--flip", "0.5", "--seed", "3", "--variants", "2"]
    code, _, err = largeds("view", jpeg_stores["many"], tmp_path / "a.png", *options)
    assert code == 0, err
    picture, opened = pixels(tmp_path / "a.png"), lds.open(jpeg_stores["many"])
    assert all(contains(picture, magnified(opened[row][0])) for row in (0, 1, 2))
    import torch

    augment = lds.Augment(resized_crop=32, flip=0.5)
    with lds.Loader(opened, 3, indices=[0, 1, 2], seed=3, augment=augment, dtype=torch.uint8, fields=()) as loader:
        for _ in range(2):
            ((batch,),) = loader
            assert all(contains(picture, magnified(image)) for image in batch.numpy())
    sentence(largeds("view", jpeg_stores["many"], tmp_path / "b.png", "--flip", "0.5"), 1, "pass --resized-crop 224")
    code, _, err = largeds("view", jpeg_stores["many"], tmp_path / "c.html", "-q")
    assert (code, err) == (0, "")
    page = (tmp_path / "c.html").read_text()
    assert "JPEG 48x48 to 90x80 (height x width), RGB" in page
    assert page.count("data:image") >= 12


def test_large_jpeg_rows_are_shown_small(largeds: Largeds, tmp_path: Path) -> None:
    store = make_jpeg_store(tmp_path, 2, ((1500, 1000),))
    assert largeds("view", store.path, tmp_path / "a.png", "-q")[0] == 0
    assert max(tile.tiles[0].picture.size for tile in tile_rows(store)) == (171, 256)  # type: ignore[union-attr]


def tile_rows(store: Any) -> Any:
    return tile_rows_of(store, [0, 1], augment=None, variants=1, seed=0, on_progress=lambda *_: None)


def test_stored_variants_are_beside_their_file(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    augment = lds.Augment(resized_crop=16, flip=0.5)
    store = lds.pack(tree, tmp_path / "v.lds", resize=20, crop=None, variants=3, augment=augment, progress=False)
    assert largeds("view", tmp_path / "v.lds", tmp_path / "v.png", "--rows", "5", "--variants", "2")[0] == 0
    picture = pixels(tmp_path / "v.png")
    assert [contains(picture, magnified(one)) for one in store.images[5]] == [True, True, False]
    with Image.open(tree / "dog" / "1.png") as image:
        assert contains(picture, magnified(np.asarray(image), "HWC"))


def test_failures_have_their_file_and_reason(largeds: Largeds, tree: Path, tmp_path: Path) -> None:
    """Pillow opens an image that failed because of `max_pixels`."""
    size: dict[str, Any] = {"resize": 18, "crop": 16, "progress": False}
    wide = np.random.default_rng(1).integers(0, 256, (20, 40, 3), np.uint8)
    folder = tmp_path / "tree" / "cat"
    folder.mkdir(parents=True)
    Image.fromarray(wide).save(folder / "wide.png")
    Image.fromarray(wide[:, :20]).save(folder / "small.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    lds.pack(tmp_path / "tree", tmp_path / "f.lds", max_pixels=500, max_failures=2, **size)
    code, out, _ = largeds("view", tmp_path / "f.lds", tmp_path / "f.png", "--failures", "--json")
    assert (code, json.loads(out)["failures"]) == (0, 2)
    assert contains(pixels(tmp_path / "f.png"), magnified(wide, "HWC"))
    sentence(
        largeds("view", lds.pack(tree / "cat", tmp_path / "g.lds", **size).path, "--failures"), 1, "no image failed"
    )


def test_a_file_outside_of_the_folder_is_not_opened(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    Image.new("RGB", (400, 100)).save(inside / "a.png")
    (inside / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    root = str(inside)
    found = thumbnail(root, "a.png", 64)
    assert found is not None
    assert found.size == (64, 16)
    for name in ("../secret.png", str(tmp_path / "secret.png"), "b.png", "eps.png", ".", "a\0.png", "/dev/zero"):
        assert thumbnail(root, name, 64) is None
    assert thumbnail("in", "a.png", 64) is None
    assert thumbnail(None, "a.png", 64) is None


def test_text_is_made_printable() -> None:
    assert printable("a\x1b[31m\n\u202eb\ud800") == "a\ufffd[31m \ufffdb\ufffd"
    assert printable("x" * 1000) == "x" * 199 + "…"


def test_other_labels_and_mapped_files(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    images = np.zeros((3, 3, 8, 8), np.uint8)
    for name, labels in (("f", np.ones((3, 20))), ("i", np.array([5, 0, 7]))):
        lds.pack((images, labels), tmp_path / f"{name}.lds", resize=None, crop=None, progress=False)
        assert largeds("view", tmp_path / f"{name}.lds", tmp_path / "a.png")[0] == 0
        assert largeds("view", tmp_path / f"{name}.lds", tmp_path / "a.html")[0] == 0
    sentence(largeds("view", tmp_path / "f.lds", tmp_path / "a.png", "--class", "a"), 1, "no class numbers")
    largeds("export", store, tmp_path / "a.h5")
    assert largeds("view", tmp_path / "a.h5", tmp_path / "a.png", "--flip", "1")[0] == 0
    assert largeds("view", tmp_path / "a.h5", tmp_path / "a.html")[0] == 0
    assert "no list of samples" in (tmp_path / "a.html").read_text()
    sentence(largeds("view", tmp_path / "a.h5", tmp_path / "b.png", "--failures"), 1, "no list of samples")


@pytest.fixture
def hostile(tree: Path, tmp_path: Path) -> Path:
    """A store whose texts are all markup: classes, sources, reasons, the report."""
    store = lds.pack(tree, tmp_path / "h.lds", resize=18, crop=16, progress=False)
    for name in ("manifest.json", "report.json"):
        content = json.loads((store.path / name).read_text())
        if name == "manifest.json":
            content["classes"] = [HOSTILE, "'\"><svg onload=alert(1)>\u202e\ud800"]
        else:
            content["source"] = content["limit"] = HOSTILE
            content["failures"] = [{"source": HOSTILE, "reason": HOSTILE, "error": HOSTILE}]
        (store.path / name).write_text(json.dumps(content))
    import pyarrow.parquet as pq

    path = store.path / "shard-00000" / "samples.parquet"
    table = pq.read_table(path)
    for column in ("source", "error"):
        texts = [text and text + HOSTILE for text in table[column].to_pylist()]
        table = table.set_column(table.column_names.index(column), column, [texts])
    pq.write_table(table, path)
    return store.path


def test_a_page_in_a_browser(largeds: Largeds, hostile: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, err = largeds("view", hostile, page, "--html", "--flip", "0.5", "--variants", "2", "--json")
    assert (code, err) == (0, "")
    assert (len(json.loads(out)["rows"]), json.loads(out)["failures"]) == (8, 1)
    with Browser() as browser:
        browser.open(page)
        sizes = browser.value("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        assert sizes == [256] * 24  # 8 images, each with 2 variants, 16 pixels magnified
        assert browser.value("document.title") == "h.lds"
        assert browser.value("document.querySelectorAll('script, svg[onload], img[onerror]').length") == 1
        assert HOSTILE in browser.value("document.querySelector('.bars th').textContent")
        assert HOSTILE in browser.value("document.querySelector('.report').textContent")
        assert HOSTILE in browser.value("document.querySelector('.failures tbody').textContent")
        assert browser.value("[...document.querySelectorAll('.bars rect')].map(r => r.getAttribute('width'))") == [
            "100.00%",
            "100.00%",
        ]
        # its own script does run: the field leaves what fits
        browser.value("filter.value = '#3'; filter.dispatchEvent(new Event('input'))")
        assert browser.value("[...document.querySelectorAll('.strip')].filter(s => s.offsetWidth > 0).length") == 1
        assert browser.requests() == [page.as_uri()]
        assert browser.complaints() == []
        # and no other can, even if a text came through: the page's policy stops it
        browser.value("document.body.append(Object.assign(document.createElement('script'), {text: 'foreign = 1'}))")
        assert browser.value("typeof foreign") == "undefined"
        assert browser.complaints() != []


def test_a_page_on_a_telephone(largeds: Largeds, hostile: Path, tmp_path: Path) -> None:
    largeds("view", hostile, tmp_path / "page.html", "--flip", "0.5")
    with Browser() as browser:
        browser.open(tmp_path / "page.html", width=360, height=640)
        assert browser.value("document.documentElement.scrollWidth") <= 360


def test_a_report_with_wrong_types_is_none(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    content = json.loads((store / "report.json").read_text())
    for key, value in (("packed", "many"), ("failed", {"x": HOSTILE}), ("source", 3), ("seconds", None)):
        (store / "report.json").write_text(json.dumps(content | {key: value}))
        assert lds.open(store).report is None
        assert largeds("view", store, tmp_path / "a.html")[0] == 0
    assert "There is no report" in (tmp_path / "a.html").read_text()


def test_bad_input(largeds: Largeds, store: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "a.png"
    for arguments, code, expected in (
        ((tmp_path / "absent",), 1, "does not exist"),
        ((empty,), 1, "is not a store"),
        ((store, tmp_path / "a.gif"), 1, "expected a name that ends in .png"),
        ((store, tmp_path / "a.png", "--html"), 1, "expected a name that ends in .html"),
        ((store, tmp_path / "no" / "a.png"), 1, "is not a folder"),
        ((store, out, "--rows", "8"), 1, "expected row numbers from 0 to 7, found 8"),
        ((store, out, "--rows", "x"), 2, "expected rows and ranges"),
        ((store, out, "--rows", "1", "--failures"), 2, "pass only one of them"),
        ((store, out, "--class", "cow"), 1, "no class 'cow'; its classes are: cat, dog"),
        ((store, out, "--random-crop", "99"), 1, "99"),
        ((store, out, "--padding", "2"), 1, "padding is for random_crop"),
        ((store, out, "--random-crop", "x"), 2, "expected a side"),
        ((store, out, "--flip", "2"), 2, "--flip"),
    ):
        sentence(largeds("view", *arguments), code, expected)
    assert not out.exists()


@pytest.mark.parametrize("tiny_disk", ["8k"], indirect=True)
def test_a_full_disk(largeds: Largeds, store: Path, tiny_disk: Path) -> None:
    for name in ("a.png", "a.html"):
        sentence(largeds("view", store, tiny_disk / name), 1, f"{name} can't be written: No space left on device")
    assert list(tiny_disk.iterdir()) == []


def test_ctrl_c_leaves_nothing(store: Path, tmp_path: Path) -> None:
    command = ("largeds_native.view.sheet", "sheet_png", "view", store, tmp_path / "a.png")
    with start_process(*command, module="tests.programs.wait_in_command") as view:
        assert view.stdout is not None
        assert view.stdout.readline() == "ready\n"
        view.send_signal(signal.SIGINT)
        _, err = view.communicate(timeout=60)
        assert (view.returncode, err) == (130, "largeds: stopped\n")
    assert not (tmp_path / "a.png").exists()


def test_a_narrow_terminal_and_no_reader(store: Path, tmp_path: Path) -> None:
    with start_process("view", "--help", env={"COLUMNS": "40", "TERMINAL_WIDTH": "40"}) as shown:
        out, err = shown.communicate(timeout=60)
    assert (shown.returncode, err) == (0, "")
    assert max(map(len, out.splitlines())) < 120
    with start_process("view", store, tmp_path / "a.png", stdin=subprocess.DEVNULL) as view:
        assert view.stdout is not None
        assert view.stderr is not None
        view.stdout.close()
        assert (view.stderr.read(), view.wait(60)) == ("", 141)
    assert Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).size[0] > 0
