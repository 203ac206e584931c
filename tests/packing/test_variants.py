"""Augmentation by the pack equals that by the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native import _C
from largeds_native.packing import verify_sources
from tests.builders.trees import make_tree
from tests.packing.test_pack import files_of

BASE: dict[str, Any] = {"resize": 18, "crop": 16, "progress": False}
AUGMENTS = [
    lds.Augment(flip=0.5),
    lds.Augment(random_crop=12, padding=3, flip=0.5),
    lds.Augment(resized_crop=(9, 11), scale=(0.2, 1.0), flip=0.5),
    lds.Augment(center_crop=10),
    lds.Augment(flip=0.5, vertical_flip=0.5),
]


def gathered(plain: Any, augment: lds.Augment, seed: int, variants: int) -> np.ndarray:
    """(N, K, *shape): epoch v of a loader is variant v."""
    channels = plain.channels
    planar = plain.layout == "CHW"
    height, width = plain.shape[1:] if planar else plain.shape[:2]
    read = _C.ReadSpec(_C.ImageLayout(channels=channels, height=height, width=width, planar=planar))
    picture = _C.Picture(plain.rows, read, _C.OutputSpec(planar=planar, dtype="uint8"))
    gather = _C.Gather([picture], views=[augment.core()])
    shape = (len(plain), *gather.sample_shapes[0])
    form = torch.contiguous_format if planar else torch.channels_last
    found = []
    for epoch in range(variants):
        out = torch.empty(shape, dtype=torch.uint8, memory_format=form)
        gather.run(np.arange(len(plain)), seed, epoch, [out], _C.Pool(1))
        found.append((out if planar else out.permute(0, 2, 3, 1)).numpy().copy())
    return np.stack(found, 1)


@pytest.mark.parametrize("augment", AUGMENTS, ids=["flip", "crop", "resized", "centre", "both flips"])
@pytest.mark.parametrize(("layout", "mode"), [("CHW", "RGB"), ("HWC", "RGB"), ("HWC", "L")])
def test_variants_are_those_of_the_loader(tmp_path: Path, augment: lds.Augment, layout: Any, mode: Any) -> None:
    make_tree(tmp_path / "tree")
    options = {**BASE, "layout": layout, "mode": mode}
    plain = lds.pack(tmp_path / "tree", tmp_path / "plain", **options)
    store = lds.pack(tmp_path / "tree", tmp_path / "k", variants=3, augment=augment, seed=5, **options)
    assert len(store) == 12
    assert store.variants == 3
    np.testing.assert_array_equal(store.images, gathered(plain, augment, 5, 3))
    mean, std = store.statistics
    axes = (0, 1, 3, 4) if layout == "CHW" else (0, 1, 2, 3)
    np.testing.assert_allclose(mean, (np.asarray(store.images) / 255).mean(axes), rtol=1e-12)
    np.testing.assert_allclose(std, (np.asarray(store.images) / 255).std(axes), rtol=1e-12)
    assert verify_sources(store).ok


def test_reproducible_from_the_seed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    make_tree(tree)
    options = {**BASE, "variants": 4, "augment": AUGMENTS[2], "shard_bytes": 5 * 4 * 9 * 11 * 3}
    stores = [lds.pack(tree, tmp_path / f"t{n}", threads=n, seed=1, **options) for n in (1, 2, 8)]
    assert len(stores[0].shards) == 3
    contents = [files_of(store.path) for store in stores]
    assert contents[0] == contents[1] == contents[2]
    other = lds.pack(tree, tmp_path / "other", seed=2, **options)
    assert (np.asarray(other.images) != np.asarray(stores[0].images)).any()
    assert other.identity != stores[0].identity


def test_a_failed_image_does_not_change_others(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree")
    options = {**BASE, "variants": 2, "augment": AUGMENTS[1]}
    whole = np.asarray(lds.pack(tmp_path / "tree", tmp_path / "whole", **options).images)
    paths[4].write_bytes(b"rotten")
    rest = lds.pack(tmp_path / "tree", tmp_path / "rest", **options)
    np.testing.assert_array_equal(rest.images, np.delete(whole, 4, axis=0))


def test_normalised_floats(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    options = {**BASE, "variants": 2, "augment": AUGMENTS[1]}
    pixels = lds.pack(tmp_path / "tree", tmp_path / "u8", **options)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    floats = lds.pack(tmp_path / "tree", tmp_path / "f4", dtype="float32", mean=mean, std=std, **options)
    m, s = (np.asarray(v).reshape(3, 1, 1) for v in (mean, std))
    np.testing.assert_allclose(floats.images, (np.asarray(pixels.images) / 255 - m) / s, rtol=1e-6, atol=1e-6)


def test_one_augmented_variant(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    plain = lds.pack(tmp_path / "tree", tmp_path / "plain", **BASE)
    store = lds.pack(tmp_path / "tree", tmp_path / "one", augment=AUGMENTS[1], **BASE)
    assert store.variants == 1
    np.testing.assert_array_equal(store.images, gathered(plain, AUGMENTS[1], 0, 1)[:, 0])


def test_the_loader_draws_or_cycles(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree")
    store = lds.pack(tmp_path / "tree", tmp_path / "k", variants=3, augment=AUGMENTS[1], **BASE)
    with lds.Loader(store, 12, dtype=torch.uint8, variant="cycle") as loader:
        for epoch in range(4):
            (images, *_), *_ = loader
            np.testing.assert_array_equal(images.numpy(), np.asarray(store.images)[:, epoch % 3])
