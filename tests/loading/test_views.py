"""Several views of each sample, and transforms that depend on the epoch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native.errors import ArgumentError
from tests.builders.images import encode, pixels
from tests.loading.epochs import MEAN, STD
from tests.loading.test_cuda import pretended  # noqa: F401 - a fixture
from tests.reference import gathered_sample

ROWS, SIDE = 22, 24
LARGE = lds.Augment(resized_crop=16, scale=(0.3, 1.0), flip=0.5)
SMALL = lds.Augment(resized_crop=(6, 8), scale=(0.05, 0.3), ratio=(0.5, 2.0))
CUT = lds.Augment(random_crop=9, padding=2, flip=0.5)
VALIDATE = lds.Augment(resize=20, center_crop=14, interpolation="bicubic")
MULTI_CROP = [LARGE, LARGE, SMALL, CUT, VALIDATE, SMALL]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Raw rows of one size, and JPEG rows of many; label i is the number of the row."""
    folder = tmp_path_factory.mktemp("views")
    raw = np.stack([pixels(SIDE, SIDE, seed=i) for i in range(ROWS)])
    files = [encode(pixels(30 + 3 * (i % 4), 26 + 5 * (i % 3), seed=i), quality=90) for i in range(ROWS)]
    options: dict[str, Any] = {"resize": None, "crop": None, "progress": False}
    return {
        "raw": lds.pack((raw, np.arange(ROWS)), folder / "raw.lds", shard_bytes=10_000, **options),
        "jpeg": lds.pack(zip(files, range(ROWS), strict=True), folder / "jpeg.lds", codec="jpeg", **options),
    }


def image_of(store: Any, row: int) -> np.ndarray[Any, Any]:
    image = np.asarray(store.images[row])
    return image if store.layout == "HWC" else image.transpose(1, 2, 0)


def reference(store: Any, row: int, key: int, epoch: int, augment: lds.Augment, view: int) -> torch.Tensor:
    height, width = image_of(store, row).shape[:2]
    crop, size = next(
        (name, size)
        for name, size in (
            ("random_resized", augment.resized_crop),
            ("random", augment.random_crop),
            ("center", augment.center_crop),
            ("none", (height, width)),
        )
        if size is not None
    )
    options = {
        "crop": crop,
        "out_height": size[0],
        "out_width": size[1],
        "padding": augment.padding,
        "scale": augment.scale,
        "ratio": augment.ratio,
        "flip": augment.flip,
        "vertical_flip": augment.vertical_flip,
        "resize": augment.resize,
        "filter": augment.interpolation,
    }
    return torch.from_numpy(gathered_sample(image_of(store, row), key, 7, epoch, options, view).copy())


def loader(store: Any, augment: Any = MULTI_CROP, **options: Any) -> lds.Loader:
    return lds.Loader(store, 5, **{"augment": augment, "dtype": torch.uint8, "seed": 7, "shuffle": True} | options)


def flat(batches: Any) -> list[torch.Tensor]:
    """The tensors of all batches."""
    found = []
    for views, labels in batches:
        found += [*views, labels]
    return found


def assert_equal(ours: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(ours) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_each_view_equals_one_sample_at_a_time(stores: dict[str, Any], codec: str) -> None:
    store = stores[codec]
    with loader(store, threads=2) as views:
        for epoch in range(2):
            for images, labels in views:
                assert isinstance(images, list)
                assert [tuple(view.shape[1:]) for view in images] == [
                    (3, 16, 16),
                    (3, 16, 16),
                    (3, 6, 8),
                    (3, 9, 9),
                    (3, 14, 14),
                    (3, 6, 8),
                ]
                for number, (view, augment) in enumerate(zip(images, MULTI_CROP, strict=True)):
                    for image, row in zip(view, labels.tolist(), strict=True):
                        assert torch.equal(image, reference(store, row, row, epoch, augment, number))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_views(stores: dict[str, Any], data: st.DataObject) -> None:
    store = stores[data.draw(st.sampled_from(["raw", "jpeg"]))]
    side = st.integers(1, 24)
    view = st.one_of(
        st.builds(
            lambda h, w, low, flip: lds.Augment(resized_crop=(h, w), scale=(low, 1.0), flip=flip, vertical_flip=0.5),
            side,
            side,
            st.floats(0.01, 1.0),
            st.sampled_from([0.0, 0.5, 1.0]),
        ),
        st.builds(
            lambda h, w, pad: lds.Augment(random_crop=(h, w), padding=pad, flip=0.5), side, side, st.integers(0, 9)
        ),
        st.builds(lambda h, w: lds.Augment(resize=(h, w)), side, side),
    )
    views = data.draw(st.lists(view, min_size=1, max_size=4))
    with loader(store, views, threads=1, prefetch=0) as made:
        images, labels = next(iter(made))
    for number, (batch, augment) in enumerate(zip(images, views, strict=True)):
        for image, row in zip(batch, labels.tolist(), strict=True):
            assert torch.equal(image, reference(store, row, row, 0, augment, number))


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
def test_the_first_view_is_that_of_a_loader_of_one(stores: dict[str, Any], codec: str) -> None:
    with loader(stores[codec], LARGE) as one, loader(stores[codec], [LARGE, LARGE]) as two:
        for (image, label), ((first, second), same) in zip(one, two, strict=True):
            assert torch.equal(image, first)
            assert torch.equal(label, same)
            assert not torch.equal(first, second)
    with loader(stores[codec], [LARGE]) as listed, loader(stores[codec], LARGE) as one:
        for ((image,), _), (same, _) in zip(listed, one, strict=True):
            assert torch.equal(image, same)


def test_every_format(stores: dict[str, Any]) -> None:
    for codec, channels_last in itertools.product(("raw", "jpeg"), (False, True)):
        store = stores[codec]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        options = {"mean": MEAN, "std": STD, "dtype": torch.float32, "channels_last": channels_last}
        with loader(store, **options) as floats, loader(store) as integers:
            for (views, _), (plain, _) in zip(floats, integers, strict=True):
                for view, same in zip(views, plain, strict=True):
                    form = torch.channels_last if channels_last else torch.contiguous_format
                    assert view.is_contiguous(memory_format=form)
                    torch.testing.assert_close(view, (same / 255 - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("codec", ["raw", "jpeg"])
@pytest.mark.parametrize("options", [{}, {"shuffle": False, "weights": np.arange(ROWS) + 1.0}])
def test_resume_and_ranks(stores: dict[str, Any], codec: str, options: dict[str, Any]) -> None:
    """Draws that come twice in an epoch, by weights, have views of their own."""
    store = stores[codec]
    with loader(store, **options) as whole:
        expected = [list(whole), list(whole)]
    with loader(store, **options) as stopped:
        iterator = iter(stopped)
        seen = [next(iterator) for _ in range(2)]
        state = stopped.state_dict()
    with loader(store, threads=1, prefetch=0, **options) as resumed:
        resumed.load_state_dict(state)
        assert_equal(flat(seen + list(resumed)), flat(expected[0]))
        assert_equal(flat(resumed), flat(expected[1]))
    parts = [list(loader(store, rank=rank, world_size=2, drop_last=True, **options)) for rank in range(2)]
    with lds.Loader(
        store, 10, augment=MULTI_CROP, dtype=torch.uint8, seed=7, drop_last=True, **{"shuffle": True, **options}
    ) as one:
        for (views, labels), (mine, a), (yours, b) in zip(one, *parts, strict=True):
            assert torch.equal(labels, torch.cat([a, b]))
            assert_equal(views, [torch.cat(pair) for pair in zip(mine, yours, strict=True)])


def test_on_a_device(stores: dict[str, Any], pretended: Any) -> None:  # noqa: F811
    options: dict[str, Any] = {"augment": MULTI_CROP, "seed": 7}
    normal = {"mean": MEAN, "std": STD, **options}
    with lds.Loader(stores["jpeg"], 5, **normal) as here:
        expected = flat(here)
    there = flat(pretended(stores["jpeg"], 5, **normal))
    for ours, same in zip(there, expected, strict=True):
        torch.testing.assert_close(ours, same, rtol=1e-5, atol=1e-5)
    assert_equal(
        flat(pretended(stores["raw"], 5, dtype=torch.uint8, **options)), flat(loader(stores["raw"], shuffle=False))
    )


def test_held_views_do_not_change(stores: dict[str, Any]) -> None:
    with loader(stores["raw"], prefetch=1) as batches:
        kept = [views[1] for _ in range(5) for views, _ in batches]
        copies = [view.clone() for view in kept]
        for _ in range(3):
            list(batches)
        assert_equal(kept, copies)


def test_a_damaged_row_is_replaced_in_all_views(tmp_path: Path, stores: dict[str, Any]) -> None:
    files = [encode(pixels(30, 30, seed=i), quality=90) for i in range(4)]
    store = lds.pack(zip(files, range(4), strict=True), tmp_path / "s.lds", codec="jpeg", resize=None, progress=False)
    _, offset, size = store.file_range(1)
    with open(store.path / "shard-00000" / "images.bin", "r+b") as file:
        file.seek(offset)
        file.write(bytes(size))
    damaged = lds.open(store.path)
    with loader(damaged, shuffle=False, on_damage="skip") as skipping, pytest.warns(RuntimeWarning, match="replaced"):
        ((views, labels),) = list(skipping)
    assert labels.tolist() == [0, 2, 2, 3]
    for number, (view, augment) in enumerate(zip(views, MULTI_CROP, strict=True)):
        assert torch.equal(view[1], reference(damaged, 2, 1, 0, augment, number))


def test_scaled_decoding_serves_the_view_that_needs_most(tmp_path: Path) -> None:
    files = [encode(pixels(160, 200, seed=i), quality=90) for i in range(3)]
    store = lds.pack(zip(files, range(3), strict=True), tmp_path / "s.lds", codec="jpeg", resize=None, progress=False)
    quarter, half = lds.Augment(resize=40, center_crop=40), lds.Augment(resize=80, center_crop=70)
    options = {"shuffle": False, "decode": "scaled"}
    (alike, _), (mixed, _), (whole, _) = (
        next(iter(loader(store, views, **options)))
        for views in ([quarter, quarter], [quarter, half], [quarter, VALIDATE])
    )
    single = {augment: next(iter(loader(store, augment, **options)))[0] for augment in (quarter, half)}
    assert torch.equal(alike[0], single[quarter])
    assert torch.equal(mixed[1], single[half])
    exact = next(iter(loader(store, quarter, shuffle=False)))[0]
    for view in (alike[1], mixed[0], whole[0]):
        assert (view.float() - exact.float()).abs().mean() < 6


# ---- transforms that depend on the epoch ---------------------------------------------------------------------------


def progressive(epoch: int) -> lds.Augment:
    return lds.Augment(resized_crop=8 if epoch < 2 else 12, flip=0.5)


def test_a_schedule(stores: dict[str, Any]) -> None:
    with loader(stores["jpeg"], progressive) as scheduled:
        found = [list(scheduled) for _ in range(4)]
        assert {tuple(images.shape[2:]) for images, _ in found[1]} == {(8, 8)}
        assert {tuple(images.shape[2:]) for images, _ in found[2]} == {(12, 12)}
        assert scheduled.stats()["slot_bytes"] < 2 * 5 * (3 * 12 * 12 + 8) + 256
        scheduled.set_epoch(1)
        state = scheduled.state_dict()
    for epoch, batches in enumerate(found):
        with loader(stores["jpeg"], progressive(epoch)) as fixed:
            fixed.set_epoch(epoch)
            for one, other in zip(batches, fixed, strict=True):
                assert_equal(list(one), list(other))
    with loader(stores["jpeg"], progressive) as resumed:
        resumed.load_state_dict(state)
        for expected in found[1:]:
            for one, other in zip(expected, resumed, strict=True):
                assert_equal(list(one), list(other))


def test_a_schedule_of_views(stores: dict[str, Any]) -> None:
    with loader(stores["raw"], lambda epoch: [LARGE, SMALL] if epoch else [SMALL, LARGE]) as views:
        assert [view.shape[3] for view in next(iter(views))[0]] == [8, 16]
        assert [view.shape[3] for view in next(iter(views))[0]] == [16, 8]


def test_a_schedule_that_changes_the_number_of_views(stores: dict[str, Any]) -> None:
    for later in ([LARGE] * 3, [LARGE], LARGE, None, 5, "x"):
        views = loader(stores["raw"], lambda epoch, later=later: later if epoch else [LARGE, SMALL])
        list(views)
        with pytest.raises(ArgumentError, match="augment: "):
            iter(views)
        with pytest.raises(ArgumentError, match="augment: "):  # it is asked again
            iter(views)
        views.set_epoch(0)
        assert len(list(views)) == len(views)


def test_views_that_can_not_be(stores: dict[str, Any]) -> None:
    for augment, message in (
        ([], "augment: expected 1 to 1024 views, found a list of 0"),
        ([LARGE, None], "augment: expected an Augment, a list of them, .*found NoneType"),
        ([LARGE, 3], "found int"),
        ("flip", "found str"),
        (lambda epoch: 3, r"<lambda>\(0\) returned int. Transforms of other libraries are applied to the batches"),
        (torch.nn.Identity(), r"augment: expected a function of the epoch .* but Identity\(0\) returned int"),
        (lambda: LARGE, r"augment: expected a function of the epoch .*, but <lambda>\(0\) raised TypeError"),
        (lambda epoch: 1 // epoch, r"augment: expected a function .* but <lambda>\(0\) raised ZeroDivisionError"),
        (lds.ColorAugment(0.4), r"augment: expected a function .* but ColorAugment\(0\) raised ArgumentError: images"),
        (lds.Augment, r"augment: expected a function of the epoch .* but Augment\(0\) raised"),
        ([LARGE, lds.Augment(flip=0.5)], "augment: the images of .* have many sizes"),
        ([LARGE, lds.Augment(random_crop=100)], "does not fit"),
    ):
        with pytest.raises(ArgumentError, match=message):
            loader(stores["jpeg"], augment)
