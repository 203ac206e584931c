"""Masks beside their images: the same crop, resize and flip, by the nearest neighbour; padding is `ignore`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import largeds_native as lds
from largeds_native import _C
from largeds_native.errors import ArgumentError, LargedsError
from tests.builders.images import pixels
from tests.builders.masks import make_mask_tree, mask_numbers
from tests.loading.epochs import MEAN, STD
from tests.loading.test_cuda import pretended  # noqa: F401 - a fixture
from tests.loading.test_views import CUT, LARGE, SMALL, VALIDATE, assert_equal

ROWS = 12
KINDS = ("raw", "raw 16", "jpeg", "jpeg 16", "raw 32")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("masks")
    found = {}
    for highest in (20, 40_000):
        tree = make_mask_tree(folder / str(highest), each=ROWS // 2, highest=highest)
        ignore = 255 if highest < 256 else 65_535
        options: dict[str, Any] = {"masks": tree.masks, "ignore": ignore, "progress": False}
        end = "" if highest < 256 else " 16"
        found["raw" + end] = lds.pack(
            tree.images, folder / f"raw{end}", resize=32, crop=(28, 30), layout="HWC", **options
        )
        found["jpeg" + end] = lds.pack(tree.images, folder / f"jpeg{end}", codec="jpeg", **options)
    images = np.stack([pixels(26, 27, seed=i) for i in range(ROWS)])
    numbers = np.stack([mask_numbers(26, 27, i) for i in range(ROWS)]).astype(np.int64) * 1_000_000 - 3
    found["raw 32"] = lds.pack(
        (images, np.arange(ROWS)), folder / "r32", masks=numbers, ignore=-100, resize=None, crop=None, progress=False
    )
    return found


def nearest(numbers: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Pillow's, of the numbers of rows and columns."""
    at = np.indices(numbers.shape).astype(np.uint8)
    small = [np.asarray(Image.fromarray(one).resize(size[::-1], Image.Resampling.NEAREST)) for one in at]
    return numbers[small[0], small[1]]


def reference(
    store: Any, row: int, epoch: int, augment: lds.Augment, view: int = 0, name: str = "mask"
) -> np.ndarray[Any, Any]:
    """The mask of a sample, cut out as `_C.geometry` says of its image."""
    numbers = np.asarray(store[name][row])
    spec = store.metadata.pictures[name]
    box, resized, part, flip, vertical_flip = _C.geometry(augment.core(), *numbers.shape, 7, epoch, row, view)
    x0, y0, x1, y1 = box
    if resized == (y1 - y0, x1 - x0):
        rows, columns = np.arange(y0, y1), np.arange(x0, x1)
        inside = ((rows >= 0) & (rows < numbers.shape[0]))[:, None] & ((columns >= 0) & (columns < numbers.shape[1]))
        cut = numbers[np.clip(rows, 0, numbers.shape[0] - 1)[:, None], np.clip(columns, 0, numbers.shape[1] - 1)]
        out = np.where(inside, cut, spec.dtype.type(spec.ignore or 0))
    else:
        out = nearest(numbers[y0:y1, x0:x1], resized)[part[1] : part[3], part[0] : part[2]]
    out = out[:, ::-1] if flip else out
    return out[::-1] if vertical_flip else out


def loader(store: Any, augment: Any = None, fields: Any = ("mask", "label"), **options: Any) -> lds.Loader:
    options = {"dtype": torch.uint8, "seed": 7, "shuffle": True, **options}
    return lds.Loader(store, 5, augment=augment, fields=fields, **options)


def as_numpy(mask: torch.Tensor) -> np.ndarray[Any, Any]:
    return mask.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("augment", [LARGE, SMALL, CUT, VALIDATE], ids=["resized", "small", "padded", "validation"])
def test_a_mask_is_cut_out_as_its_image(stores: dict[str, Any], kind: str, augment: lds.Augment) -> None:
    store = stores[kind]
    with loader(store, augment, indices=range(ROWS)) as batches, loader(store, augment, ("label",)) as plain:
        for epoch in range(2):
            for (images, masks, labels), (same, _) in zip(batches, plain, strict=True):
                assert torch.equal(images, same)
                assert masks.shape == (len(labels), *images.shape[2:])
                assert as_numpy(masks).dtype == store.metadata.pictures["mask"].dtype
            rows = batches.plan.order.elements(epoch, 0, ROWS)
            batches.set_epoch(epoch)
            found = np.concatenate([as_numpy(masks) for _, masks, _ in batches])
            for mask, row in zip(found, rows.tolist(), strict=True):
                np.testing.assert_array_equal(mask, reference(store, row, epoch, augment))


@pytest.mark.parametrize("kind", ["raw", "raw 16", "raw 32"])
def test_without_an_augment(stores: dict[str, Any], kind: str) -> None:
    store = stores[kind]
    with loader(store, None, shuffle=False) as batches:
        np.testing.assert_array_equal(np.concatenate([as_numpy(mask) for _, mask, _ in batches]), store["mask"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_geometry(stores: dict[str, Any], data: st.DataObject) -> None:
    store = stores[data.draw(st.sampled_from(KINDS))]
    side = st.integers(1, 26)
    augment = data.draw(
        st.one_of(
            st.builds(
                lambda h, w, low: lds.Augment(resized_crop=(h, w), scale=(low, 1.0), flip=0.5, vertical_flip=0.5),
                side,
                side,
                st.floats(0.01, 1.0),
            ),
            st.builds(
                lambda h, w, pad: lds.Augment(random_crop=(h, w), padding=pad, vertical_flip=0.5),
                side,
                side,
                st.integers(0, 9),
            ),
            st.builds(lambda h, w: lds.Augment(resize=(h, w)), side, side),
        )
    )
    with loader(store, augment, ("mask",), prefetch=0, shuffle=False) as batches:
        _, masks = next(iter(batches))
    for row in range(5):
        np.testing.assert_array_equal(as_numpy(masks)[row], reference(store, row, 0, augment))


@pytest.mark.parametrize("kind", KINDS)
def test_with_views(stores: dict[str, Any], kind: str) -> None:
    store, views = stores[kind], [LARGE, CUT, SMALL]
    with loader(store, views, ("label", "mask"), shuffle=False) as batches:
        for number, (images, labels, masks) in enumerate(batches):
            assert [view.shape[2:] for view in images] == [mask.shape[1:] for mask in masks]
            assert len(labels) == len(masks[0])
            for view, (mask, augment) in enumerate(zip(masks, views, strict=True)):
                for i in range(len(labels)):
                    np.testing.assert_array_equal(as_numpy(mask)[i], reference(store, number * 5 + i, 0, augment, view))


def test_the_order_of_the_fields(stores: dict[str, Any]) -> None:
    store = stores["raw"]
    for fields in (("mask", "label"), ("label", "mask"), ("mask",), "mask"):
        with loader(store, None, fields, shuffle=False) as batches:
            first = next(iter(batches))
        names = (fields,) if isinstance(fields, str) else fields
        assert len(first) == 1 + len(names)
        np.testing.assert_array_equal(as_numpy(first[1 + names.index("mask")]), store["mask"][:5])
        if "label" in names:
            assert first[1 + names.index("label")].tolist() == store["label"][:5].tolist()


def test_several_masks(tmp_path: Path) -> None:
    images = np.stack([pixels(20, 20, seed=i) for i in range(6)])
    masks = {
        "near": np.stack([mask_numbers(20, 20, i) for i in range(6)]),
        "far": np.stack([mask_numbers(20, 20, i, 40_000) for i in range(6)]),
    }
    source = lds.sources.arrays(images, np.arange(6), masks=masks)
    for codec in ("raw", "jpeg"):
        store = lds.pack(source, tmp_path / codec, codec=codec, resize=None, crop=None, progress=False)
        with loader(store, [LARGE, SMALL], ("far", "label", "near"), shuffle=False) as batches:
            _, far, labels, near = next(iter(batches))
        for name, found in (("far", far), ("near", near)):
            for view, augment in enumerate((LARGE, SMALL)):
                for row in labels.tolist():
                    np.testing.assert_array_equal(
                        as_numpy(found[view])[row], reference(store, row, 0, augment, view, name)
                    )


def test_resume_ranks_and_device(stores: dict[str, Any], pretended: Any) -> None:  # noqa: F811
    store, options = stores["jpeg"], {"augment": [LARGE, CUT], "fields": ("mask", "label"), "seed": 7, "shuffle": True}

    def flat(batches: Any) -> list[torch.Tensor]:
        return [part for images, masks, labels in batches for part in (*images, *masks, labels)]

    with lds.Loader(store, 5, dtype=torch.uint8, **options) as whole:
        expected = flat(whole)
    with lds.Loader(store, 5, dtype=torch.uint8, **options) as stopped:
        first = next(iter(stopped))
        state = stopped.state_dict()
    with lds.Loader(store, 5, dtype=torch.uint8, threads=1, prefetch=0, **options) as resumed:
        resumed.load_state_dict(state)
        assert_equal(flat([first, *resumed]), expected)
    assert_equal(flat(pretended(store, 5, dtype=torch.uint8, **options)), expected)
    normal = {"mean": MEAN, "std": STD, **options}
    with lds.Loader(store, 5, **normal) as here:
        for ours, same in zip(flat(pretended(store, 5, **normal)), flat(here), strict=True):
            torch.testing.assert_close(ours, same, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_damaged_masks(tmp_path: Path, kind: str) -> None:
    """A mask that can't be read, or is not of its image's size, is an error that names it; or it is replaced."""
    tree = make_mask_tree(tmp_path, one_size=True)
    store = lds.pack(tree.images, tmp_path / "s", codec="jpeg", masks=tree.masks, progress=False)
    other = lds.pack(
        (np.zeros((1, 9, 9, 3), np.uint8), [0]),
        tmp_path / "o",
        codec="jpeg",
        masks=np.zeros((1, 9, 9), int),
        progress=False,
    )
    path, offset, length = store.file_range(2, "mask")
    small = Path(other.file_range(0, "mask")[0]).read_bytes()
    assert len(small) <= length
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(small.ljust(length, b"\0") if kind == "raw" else b"\x89PNG\r\n\x1a\n" + bytes(length - 8))
    words = "the picture is 9x9, and its image 40x48" if kind == "raw" else "PNG"
    with (
        loader(lds.open(store.path), LARGE, shuffle=False) as batches,
        pytest.raises(LargedsError, match=f"mask.bin.*{words}"),
    ):
        next(iter(batches))
    skipping = loader(lds.open(store.path), LARGE, shuffle=False, on_damage="skip")
    with skipping, pytest.warns(RuntimeWarning, match=r"mask\.bin"):
        _, masks, _ = next(iter(skipping))
    np.testing.assert_array_equal(as_numpy(masks)[3], reference(store, 3, 0, LARGE))


def test_fields_that_can_not_be(stores: dict[str, Any]) -> None:
    for fields, message in ((("mask", "mask"), "the mask 'mask' is given twice"), (("depth",), "has no field 'depth'")):
        with pytest.raises(ArgumentError, match=message):
            loader(stores["raw"], LARGE, fields)
    store = stores["raw"]
    assert torch.equal(store.gather([3, 1], fields="mask")[1], store.gather([3, 1], fields=("mask",))[1])
    with pytest.raises(ArgumentError, match=r"fields: expected names of fields, as \('label',\), found True"):
        store.gather([1], fields=True)


def test_with_colours(stores: dict[str, Any]) -> None:
    """Colours change the images of their own view, and no mask."""
    color = lds.ColorAugment(brightness=0.4, grayscale=0.5)
    options: dict[str, Any] = {"augment": [LARGE, CUT], "fields": ("mask", "label"), "dtype": torch.uint8, "seed": 7}
    with (
        lds.Loader(stores["jpeg"], 5, color=[None, color], **options) as ours,
        lds.Loader(stores["jpeg"], 5, **options) as plain,
    ):
        for start, ((images, masks, labels), (same, same_masks, _)) in zip(
            (0, 5, 10), zip(ours, plain, strict=True), strict=True
        ):
            keys = range(start, start + len(labels))
            assert torch.equal(images[0], same[0])
            assert torch.equal(images[1], color(same[1], seed=7, keys=keys, view=1))
            assert_equal(masks, same_masks)
