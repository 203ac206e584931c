"""Loader(color=...): the batches of a loader of uint8, coloured by their keys, and normalised after that."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.loading.color_iterator import ColorIterator
from tests.builders.masks import make_mask_tree
from tests.builders.stores import make_jpeg_store, make_labelled_store
from tests.loading.epochs import MEAN, STD, assert_same, epoch_of
from tests.loading.test_cuda import pretended  # noqa: F401 - a fixture

COLOR = lds.ColorAugment(0.4, 0.4, 0.4, 0.1, p=0.8, grayscale=0.2, blur=0.5, blur_kernel=5, solarize=0.2, erasing=0.3)
OTHER = lds.ColorAugment(brightness=0.8, blur=1, blur_kernel=3)
CROP = lds.Augment(random_crop=6, padding=1, flip=0.5)
NORMAL: dict[str, Any] = {"shuffle": True, "seed": 3, "augment": CROP, "mean": MEAN, "std": STD}


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images / 255 - mean) / std


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_the_batches_are_coloured_before_they_are_normalised(
    store: Any, dtype: torch.dtype, channels_last: bool
) -> None:
    kwargs = NORMAL | ({"mean": None, "std": None} if dtype == torch.uint8 else {})
    plain = kwargs | {"dtype": torch.uint8, "mean": None, "std": None, "channels_last": channels_last}
    ours = lds.Loader(store, 16, dtype=dtype, color=COLOR, channels_last=channels_last, **kwargs)
    before = lds.Loader(store, 16, **plain)
    for epoch in range(2):
        for (images, labels), (given, wanted) in zip(ours, before, strict=True):
            assert torch.equal(labels, wanted)  # label i is sample i
            colored = COLOR(given, seed=3, epoch=epoch, keys=labels)
            assert images.dtype == dtype
            assert images.stride() == given.stride()
            if dtype == torch.uint8:
                assert torch.equal(images, colored)
            else:
                tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
                torch.testing.assert_close(images.float(), normalised(colored), rtol=0, atol=tolerance)


def test_without_mean_floats_are_shares_of_255(store: Any) -> None:
    images, labels = next(iter(lds.Loader(store, 20, color=COLOR)))
    given, _ = next(iter(lds.Loader(store, 20, dtype=torch.uint8)))
    torch.testing.assert_close(images, COLOR(given, keys=labels) / 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_views_have_their_own_colours_and_draws(store: Any, dtype: torch.dtype) -> None:
    views = [lds.Augment(random_crop=6), lds.Augment(random_crop=5), lds.Augment(random_crop=6)]
    ours = lds.Loader(store, 30, augment=views, color=[COLOR, None, OTHER], dtype=dtype, seed=8)
    before = lds.Loader(store, 30, augment=views, dtype=torch.uint8, seed=8)
    for (images, labels), (given, _) in zip(ours, before, strict=True):
        first = COLOR(given[0], seed=8, keys=labels, view=0)
        third = OTHER(given[2], seed=8, keys=labels, view=2)
        expected = [first, given[1], third] if dtype == torch.uint8 else [x / 255 for x in (first, given[1], third)]
        for one, other in zip(images, expected, strict=True):
            torch.testing.assert_close(one, other)
    same = lds.Loader(store, 30, augment=[lds.Augment()] * 2, color=COLOR, dtype=torch.uint8)
    (one, two), _ = next(iter(same))
    assert not torch.equal(one, two)


def test_resumed_after_any_batch_the_rest_is_identical(store: Any) -> None:
    kwargs = NORMAL | {"color": COLOR}
    whole = lds.Loader(store, 16, **kwargs)
    expected = [epoch_of(whole), epoch_of(whole)]
    for stop in (0, 3, 6):
        first = lds.Loader(store, 16, threads=1, **kwargs)
        iterator = iter(first)
        for _ in range(stop):
            next(iterator)
        resumed = lds.Loader(store, 16, threads=3, prefetch=stop % 2, **kwargs)
        resumed.load_state_dict(first.state_dict())
        assert_same(epoch_of(resumed), expected[0][stop:])
        assert_same(epoch_of(resumed), expected[1])


def test_ranks_give_the_same_samples(store: Any) -> None:
    kwargs = NORMAL | {"color": COLOR}
    by_label = {
        int(i): x for images, labels in lds.Loader(store, 20, **kwargs) for x, i in zip(images, labels, strict=True)
    }
    for rank in range(2):
        for images, labels in lds.Loader(store, 10, rank=rank, world_size=2, **kwargs):
            for image, label in zip(images, labels.tolist(), strict=True):
                assert torch.equal(image, by_label[label])


def test_a_sample_that_comes_twice_has_two_colours(store: Any) -> None:
    for options in ({"order": [7] * 6}, {"weights": np.eye(100)[7]}):
        images, labels = next(iter(lds.Loader(store, 6, color=lds.ColorAugment(0.9), **options)))
        assert labels.tolist() == [7] * 6
        assert len({tuple(image.flatten().tolist()) for image in images}) == 6


def test_batches_that_are_held_are_not_overwritten(store: Any) -> None:
    for dtype in (torch.float32, torch.uint8):
        loader = lds.Loader(store, 16, color=COLOR, dtype=dtype, seed=1)
        kept = epoch_of(loader)
        copies = [(images.clone(), labels.clone()) for images, labels in kept]
        epoch_of(loader)
        assert_same(kept, copies)


def test_the_steady_state_allocates_nothing(store: Any) -> None:
    loader = lds.Loader(store, 16, color=COLOR, **NORMAL)
    for _ in range(5):
        for _batch in loader:
            allocations = loader._color_ring.stats()["allocations"]
    assert allocations <= 3
    loader.close()
    del _batch
    assert loader._color_ring.stats()["slots"] <= 1


def test_an_interrupt_while_colouring_loses_no_batch(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = NORMAL | {"color": COLOR}
    expected = epoch_of(lds.Loader(store, 16, **kwargs))
    loader = lds.Loader(store, 16, **kwargs)
    make, interrupts = ColorIterator._view, iter([1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 1])

    def interrupted(self: Any, *arguments: Any) -> Tensor:
        made = make(self, *arguments)
        if next(interrupts, 0):
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(ColorIterator, "_view", interrupted)
    found, iterator = [], iter(loader)
    while len(found) < len(expected):
        try:
            found.append(next(iterator))
        except KeyboardInterrupt:  # noqa: PERF203
            assert loader.state_dict()["position"] == 16 * len(found)
    assert_same(found, expected)


def test_jpeg_rows_and_a_transform_that_changes_with_the_epoch(tmp_path: Path) -> None:
    store = make_jpeg_store(tmp_path)

    def augment(epoch: int) -> lds.Augment:
        return lds.Augment(resized_crop=8 + 4 * epoch)

    ours = lds.Loader(store, 5, augment=augment, color=COLOR, dtype=torch.uint8)
    before = lds.Loader(store, 5, augment=augment, dtype=torch.uint8)
    for epoch in range(2):
        for number, ((images, _), (given, _)) in enumerate(zip(ours, before, strict=True)):
            keys = np.arange(5 * number, 5 * number + len(images))
            assert images.shape[2:] == (8 + 4 * epoch,) * 2
            assert torch.equal(images, COLOR(given, epoch=epoch, keys=keys))


def test_float_stores(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((10, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", images)
    store = lds.open(tmp_path / "x.npy")
    (found,) = next(iter(lds.Loader(store, 10, color=COLOR)))
    assert torch.equal(found, COLOR(torch.from_numpy(images)))
    np.save(tmp_path / "y.npy", images * 255)
    with pytest.raises(ArgumentError, match=r"images: expected floats in \[0, 1\]"):
        next(iter(lds.Loader(lds.open(tmp_path / "y.npy"), 10, color=COLOR)))
    baked = make_labelled_store(tmp_path, 4, dtype="float32", mean=MEAN, std=STD)
    with pytest.raises(ArgumentError, match=r"color: the images of .* were normalised when they were packed"):
        lds.Loader(baked, 2, color=COLOR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_on_a_device_that_is_pretended(store: Any, pretended: Any, dtype: torch.dtype) -> None:  # noqa: F811
    views = [CROP, lds.Augment(random_crop=5)]
    kwargs = NORMAL | {"dtype": dtype, "augment": views, "color": [COLOR, None]}
    if dtype == torch.uint8:
        kwargs |= {"mean": None, "std": None}
    ours = pretended(store, 16, **kwargs)
    for (images, labels), (wanted, wanted_labels) in zip(ours, lds.Loader(store, 16, **kwargs), strict=True):
        assert torch.equal(labels, wanted_labels)
        for one, other in zip(images, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_device(store: Any) -> None:
    kwargs = NORMAL | {"color": COLOR}
    for (images, labels), (wanted, wanted_labels) in zip(
        lds.Loader(store, 16, device="cuda", **kwargs), lds.Loader(store, 16, **kwargs), strict=True
    ):
        assert torch.equal(labels.cpu(), wanted_labels)
        apart = (images.cpu() - wanted).abs()
        assert float((apart > 0.1).float().mean()) < 1e-3


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"color": 0.5}, "color: expected a ColorAugment, a list with one or None for each view, or None, found float"),
        ({"color": "strong"}, "color: expected a ColorAugment, .* found str"),
        ({"color": [0.5]}, "color: expected a ColorAugment, .* found float"),
        ({"color": CROP}, "color: expected a ColorAugment, .* found Augment"),
        ({"color": [COLOR, COLOR]}, "color: expected one for each view, of which there are 1, found a list of 2"),
        (
            {"color": [], "augment": [CROP, CROP]},
            "color: expected one for each view, of which there are 2, found a list of 0",
        ),
        (
            {"color": lds.ColorAugment(blur=1)},
            "blur_kernel: half of 23 pixels must be less than the sides of the images, 8x8",
        ),
        ({"color": lds.ColorAugment(erasing=1, erasing_value=(0, 1))}, "erasing_value: expected one number"),
    ],
)
def test_bad_arguments(store: Any, kwargs: dict[str, Any], message: str) -> None:
    before = threading.active_count()
    with pytest.raises(ArgumentError, match=message):
        lds.Loader(store, 4, **kwargs)
    assert threading.active_count() <= before


def test_masks_and_other_fields_keep_their_numbers(tmp_path: Path, pretended: Any) -> None:  # noqa: F811
    tree = make_mask_tree(tmp_path, each=6)
    store = lds.pack(tree.images, tmp_path / "s.lds", masks=tree.masks, resize=32, crop=28, ignore=255, progress=False)
    views = [lds.Augment(random_crop=20), lds.Augment(random_crop=24, padding=2)]
    kwargs: dict[str, Any] = {"augment": views, "fields": ("mask", "label"), "seed": 4}
    before = list(lds.Loader(store, 6, dtype=torch.uint8, **kwargs))
    for make in (lds.Loader, pretended):
        ours = make(store, 6, color=[COLOR, OTHER], mean=MEAN, std=STD, **kwargs)
        for number, ((images, masks, labels), (given, wanted, expected)) in enumerate(zip(ours, before, strict=True)):
            keys = np.arange(6 * number, 6 * number + 6)
            assert torch.equal(labels, expected)
            for view, color in enumerate((COLOR, OTHER)):
                assert torch.equal(masks[view], wanted[view])
                colored = color(given[view], seed=4, keys=keys, view=view)
                torch.testing.assert_close(images[view], normalised(colored), rtol=0, atol=1e-5)
