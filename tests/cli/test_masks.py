"""Commands that know masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import largeds_native as lds
from tests.builders.masks import make_mask_tree

Largeds = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_commands(largeds: Largeds, tmp_path: Path, codec: str) -> None:
    tree = make_mask_tree(tmp_path)
    sizes = ["--resize", "32", "--crop", "24"] if codec == "raw" else []
    masks = ["--masks", tree.masks, "--ignore", "9", "--codec", codec, *sizes]
    store = tmp_path / "s.lds"
    assert largeds("pack", tree.images, store, *masks)[0] == 0
    assert lds.open(store).metadata.pictures["mask"].ignore == 9
    assert "mask (masks of uint8, 9 is ignored)" in largeds("info", store)[1]
    assert json.loads(largeds("info", store, "--json")[1])["fields"]["mask"]["role"] == "mask"
    assert largeds("verify", store)[0] == 0
    plain, page = tmp_path / "a.png", tmp_path / "b.html"
    assert largeds("view", store, plain)[0] == 0
    assert largeds("view", store, page, "--resized-crop", "12", "--variants", "2")[0] == 0
    assert "mask drawn over them" in page.read_text()
    colours = np.asarray(Image.open(plain)).astype(int)
    assert (np.ptp(colours, axis=2) > 100).sum() > 500
    assert largeds("export", store, tmp_path / "s.h5", "--quiet", *(["--encoded"] if codec == "jpeg" else []))[0] == 0


def test_several_masks(largeds: Largeds, tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, one_size=True)
    keep = ["--resize", "none", "--crop", "none"]
    named = [f"--masks=near={tree.masks}", f"--masks=far={tree.masks}"]
    assert largeds("pack", tree.images, tmp_path / "b", *named, *keep)[0] == 0
    assert list(lds.open(tmp_path / "b").metadata.pictures) == ["near", "far"]
    for wrong in ([f"--masks={tree.masks}", "--masks=x"], ["--masks=a=b", "--masks=a=c"]):
        code, _, err = largeds("pack", tree.images, tmp_path / "c", *wrong, *keep)
        assert code != 0
        assert "expected NAME=WHERE" in err


def test_other_pictures(largeds: Largeds, tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, one_size=True, highest=40_000)
    keep = ["--resize", "none", "--crop", "none"]
    named = [f"--masks={tree.masks}", f"--pictures=depth={tree.masks}"]
    store = tmp_path / "b"
    assert largeds("pack", tree.images, store, *named, *keep)[0] == 0
    np.testing.assert_array_equal(np.asarray(lds.open(store)["depth"])[:, 0], np.stack(tree.numbers))
    assert "depth (pictures of uint16 with 1 channel)" in largeds("info", store)[1]
    assert json.loads(largeds("info", store, "--json")[1])["fields"]["depth"]["role"] == "picture"
    page = tmp_path / "b.html"
    assert largeds("view", store, page)[0] == 0
    assert "mask drawn over them; depth beside them" in page.read_text()
    code, _, err = largeds("pack", tree.images, tmp_path / "c", f"--pictures={tree.masks}", *keep)
    assert (code != 0, "--pictures: expected NAME=WHERE" in err) == (True, True)


def test_sixteen_bits(largeds: Largeds, tmp_path: Path) -> None:
    tree = make_mask_tree(tmp_path, one_size=True, highest=40_000)
    store = tmp_path / "b"
    assert largeds("pack", tree.masks, store, "--dtype", "uint16", "--resize", "none", "--crop", "none")[0] == 0
    np.testing.assert_array_equal(np.asarray(lds.open(store).images)[:, 0], np.stack(tree.numbers))
    assert "1 x 40 x 48, uint16" in largeds("info", store)[1]
    assert largeds("view", store, tmp_path / "a.png")[0] == 0
