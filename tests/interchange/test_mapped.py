"""Files of others as stores, mapped where they lie."""

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import largeds_native as lds
from largeds_native.errors import ArgumentError, StorageError, StoreError
from largeds_native.interchange import open_hdf5
from largeds_native.store import as_packed
from tests.builders.stores import make_random_store, write_hdf5

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), np.uint8)


def test_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", np.arange(9))
    store = lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    assert (len(store), store.shape, store.layout, store.fields) == (9, (4, 5, 3), "HWC", ("label",))
    assert isinstance(store.images, np.memmap)
    np.testing.assert_array_equal(store.images, IMAGES)
    np.testing.assert_array_equal(store.rows.read([8, 0]).reshape(2, 4, 5, 3), IMAGES[[8, 0]])
    np.testing.assert_array_equal(store.field_rows("label").read([3]).view(np.int64).ravel(), [3])
    again = pickle.loads(pickle.dumps(store))
    assert again.identity == store.identity
    np.testing.assert_array_equal(again["label"], np.arange(9))


@pytest.mark.parametrize("planar", [False, True])
def test_statistics_are_computed_when_asked_for(tmp_path: Path, planar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2)) if planar else IMAGES
    monkeypatch.setattr("largeds_native.store.format.statistics.BLOCK_BYTES", 150)  # several blocks of several images
    np.save(tmp_path / "x.npy", images)
    store = lds.open(tmp_path / "x.npy")
    assert store.metadata.statistics is None
    mean, std = store.statistics
    np.testing.assert_allclose(mean, IMAGES.mean((0, 1, 2)) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, IMAGES.std((0, 1, 2)) / 255, rtol=1e-12)
    batches = lds.Loader(store, 9, mean=mean, std=std)
    assert abs(float(next(iter(batches))[0].mean())) < 1e-5


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float16", "float32"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_wide_files_are_loaded_with_their_statistics(tmp_path: Path, dtype: str, layout: str) -> None:
    images = (np.random.default_rng(0).normal(size=(6, 5, 20, 24)) * 9000).clip(0 if dtype == "uint16" else -30000)
    planes = images.astype(dtype)
    np.save(tmp_path / "x.npy", np.ascontiguousarray(planes if layout == "CHW" else planes.transpose(0, 2, 3, 1)))
    store = lds.open(tmp_path / "x.npy")
    assert (store.layout, store.channels) == (layout, 5)
    top = {"uint16": 65535, "int16": 32768}.get(dtype, 1)
    values = planes.astype(np.float64) / top
    mean, std = store.statistics
    np.testing.assert_allclose(mean, values.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(std, values.std((0, 2, 3)), rtol=1e-9)
    shape = (-1, 1, 1)
    expected = (values - np.reshape(mean, shape)) / np.reshape(std, shape)
    with lds.Loader(store, 6, mean=mean, std=std) as loader:
        (batch,) = (part for (part,) in loader)
    np.testing.assert_allclose(batch.numpy().astype(np.float64), expected, rtol=1e-2, atol=5e-3)
    assert torch.equal(store.gather([0, 5]), torch.from_numpy(planes[[0, 5]]))


def test_the_layout_of_small_images_of_many_channels(tmp_path: Path) -> None:
    """Their shape alone says that the shorter axis has the channels."""
    planes = np.random.default_rng(0).integers(0, 256, (6, 13, 8, 9), np.uint8)
    np.save(tmp_path / "x.npy", planes)
    write_hdf5(tmp_path / "x.h5", planes)
    for path in (tmp_path / "x.npy", tmp_path / "x.h5"):
        assert lds.open(path).shape == (13, 8, 9)
        assert (lds.open(path).layout, lds.open(path).channels) == ("HWC", 9)
        store = lds.open(path, layout="CHW")
        assert (store.layout, store.channels, store.image_size) == ("CHW", 13, (8, 9))
        assert store.identity != lds.open(path).identity
        assert torch.equal(store.gather([5, 0]), torch.from_numpy(planes[[5, 0]]))
        again = pickle.loads(pickle.dumps(store))
        assert (again.layout, again.identity) == ("CHW", store.identity)
        assert lds.open(store.to_hdf5(tmp_path / f"{path.name}.h5")).layout == "CHW"
        for layout in ("HW", 3):
            with pytest.raises(ArgumentError, match=f"expected an axis of 1 to 32 channels, .* and layout {layout!r}"):
                lds.open(path, layout=layout)


@pytest.mark.parametrize("userblock", [0, 512])
def test_hdf5_of_others(tmp_path: Path, userblock: int) -> None:
    with h5py.File(tmp_path / "x.h5", "w", userblock_size=userblock) as file:
        file["deep/pixels"] = IMAGES
        file.create_dataset("y", data=np.arange(9, dtype=">i4"), chunks=(2,), compression="gzip")
        file["names"] = [f"n{i}" for i in range(9)]
    store = lds.open(tmp_path / "x.h5", images="deep/pixels", labels="y")
    np.testing.assert_array_equal(store.images, IMAGES)
    np.testing.assert_array_equal(store["label"], np.arange(9))
    np.testing.assert_array_equal(store["names"], [f"n{i}" for i in range(9)])
    rows = store.field_rows("label").read([7]).view(store["label"].dtype).ravel()
    assert rows.tolist() == [7]
    assert pickle.loads(pickle.dumps(store)).fields == ("label", "names")


def test_datasets_that_cannot_be_fields(tmp_path: Path) -> None:
    """Their names mean something else in a store, or are none that a field may have."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["pixels"], file["y"], file["weight"] = IMAGES, np.arange(9), np.arange(9.0)
        for name in ("images", "samples", "label", "two words", "é"):
            file[name] = np.zeros(9)
    with pytest.warns(UserWarning, match="left out as fields: 'images', 'label', 'samples', 'two words', 'é'"):
        mapped = lds.open(tmp_path / "x.h5", images="pixels", labels="y")
    with pytest.warns(UserWarning, match="left out as fields"):
        imported = lds.from_hdf5(tmp_path / "x.h5", tmp_path / "x.lds", "pixels", "y")
    for store in (mapped, imported):
        assert store.fields == ("label", "weight")
        np.testing.assert_array_equal(store["label"], np.arange(9))
        np.testing.assert_array_equal(store["weight"], np.arange(9.0))


def test_a_mapped_store_exports_and_imports(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    exported = lds.open(tmp_path / "x.npy").to_hdf5(tmp_path / "x.h5")
    np.testing.assert_array_equal(lds.from_hdf5(exported, tmp_path / "x.lds", labels=None).images, IMAGES)


def test_what_cannot_be_mapped_says_what_to_do(tmp_path: Path) -> None:
    cases = [
        (
            write_hdf5(tmp_path / "a.h5", IMAGES, chunks=(1, 4, 5, 3)),
            "is chunked, which can't be mapped: import it with",
        ),
        (write_hdf5(tmp_path / "b.h5", IMAGES, compression="lzf"), r"is compressed \(lzf\)"),
        (
            write_hdf5(tmp_path / "c.h5", IMAGES.astype(np.float64)),
            "expected images of uint8, uint16, int16, float16, float32, found",
        ),
        (write_hdf5(tmp_path / "d.h5", IMAGES.astype(">f4")), "foreign byte order"),
    ]
    for path, message in cases:
        for opened in (lds.open, open_hdf5):
            with pytest.raises(ArgumentError, match=message):
                opened(path)
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("data", IMAGES.shape, "u1", external=[(str(tmp_path / "raw"), 0, IMAGES.nbytes)])
    with pytest.raises(ArgumentError, match="is in another file, which can't be mapped"):
        lds.open(tmp_path / "e.h5")


@pytest.mark.parametrize("kind", ["h5", "npy"])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_gather_loader_and_trainer_run_on_it(tmp_path: Path, kind: str, layout: str) -> None:
    shape = (3, 8, 8) if layout == "CHW" else (8, 8, 3)
    packed = make_random_store(tmp_path / "a.lds", n=20, shape=shape, layout=layout, shard_rows=20)
    if kind == "h5":
        mapped = lds.open(packed.to_hdf5(tmp_path / "a.h5"))
    else:
        shard = packed.shards[0].path
        mapped = lds.open(shard / "images.npy", label=shard / "label.npy")
    assert torch.equal(mapped.gather([3, 0, 19]), packed.gather([3, 0, 19]))
    kwargs = {
        "shuffle": True,
        "seed": 5,
        "augment": lds.Augment(random_crop=6, flip=0.5),
        "mean": (0.5,) * 3,
        "std": (0.2,) * 3,
    }
    for (images, labels), (wanted, classes) in zip(
        lds.Loader(mapped, 6, **kwargs), lds.Loader(packed, 6, **kwargs), strict=True
    ):
        assert torch.equal(images, wanted)
        assert torch.equal(labels, classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = model[1].weight.detach().clone()
    lds.Trainer(model, optimizer, nn.CrossEntropyLoss(), progress=False).fit(lds.Loader(mapped, 6), 1)
    assert not torch.equal(model[1].weight, before)


def test_bad_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(data[:-1])
    (tmp_path / "foreign.npy").write_bytes(b"PK" + data[2:])
    np.save(tmp_path / "fortran.npy", np.asfortranarray(IMAGES))
    np.save(tmp_path / "endian.npy", IMAGES.astype(">u2"))
    np.save(tmp_path / "objects.npy", np.array([None, "x"], object), allow_pickle=True)
    np.save(tmp_path / "vector.npy", np.arange(9))
    np.save(tmp_path / "wide.npy", np.zeros((9, 40, 50, 70), np.uint8))
    for name, message in (
        ("short", "is short: expected"),
        ("foreign", "is not a .npy file"),
        ("fortran", r"Fortran order, which can't be mapped: save it .*np.ascontiguousarray\(x, np.uint8\)"),
        ("endian", r"foreign byte order \(>u2\), .* np.ascontiguousarray\(x, np.uint16\)"),
        ("objects", "Python objects"),
    ):
        with pytest.raises(StoreError, match=message):
            lds.open(tmp_path / f"{name}.npy")
    for name, message in (("vector", "expected uint8"), ("wide", "an axis of 1 to 32 channels")):
        with pytest.raises(ArgumentError, match=message):
            lds.open(tmp_path / f"{name}.npy")
    np.save(tmp_path / "y.npy", np.arange(8))
    with pytest.raises(ArgumentError, match="expected 9 values, one per image, found shape \\(8,\\)"):
        lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    with pytest.raises(StorageError, match="No such file"):
        lds.open(tmp_path / "x.npy", label=tmp_path / "none.npy")
    with pytest.raises(ArgumentError, match="label: expected the path of a"):
        lds.open(tmp_path / "x.npy", label=np.arange(9))


def test_a_file_truncated_while_open(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    store = lds.open(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    with pytest.raises(StoreError, match="was truncated after it was opened"):
        store.images  # noqa: B018


def replaced(path: Path, values: np.ndarray) -> None:
    np.save(path.with_suffix(".new.npy"), values)
    path.with_suffix(".new.npy").rename(path)


def saved_again(path: Path, values: np.ndarray) -> None:
    """In the same file; a file system may count times in milliseconds."""
    before = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == before:
        np.save(path, values)


@pytest.mark.parametrize("change", [replaced, saved_again])
def test_a_file_that_is_another_one_at_the_first_read(tmp_path: Path, change: Any) -> None:
    """Its shape and dtype are those of the file that was opened: bytes of another would be read as these."""
    labels = np.arange(len(IMAGES), dtype=np.int32)
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", labels)
    store, loaded = (lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy") for _ in range(2))
    assert np.asarray(loaded.images).tobytes() == IMAGES.tobytes()
    change(tmp_path / "x.npy", IMAGES[::-1])
    change(tmp_path / "y.npy", labels.astype(np.float32))
    reads = [lambda: store.images, lambda: store["label"], lambda: store.gather([0]), lambda: lds.Loader(store, 2)]
    for read in reads:
        with pytest.raises(
            StoreError, match=r"[xy]\.npy was replaced or written to after it was opened: open it again"
        ):
            read()
    assert np.asarray(loaded.images).shape == IMAGES.shape
    again = lds.open(tmp_path / "x.npy", label=tmp_path / "y.npy")
    np.testing.assert_array_equal(again.images, IMAGES[::-1])
    assert again["label"].dtype == np.float32


def test_nothing_to_verify(tmp_path: Path) -> None:
    store = lds.open(make_random_store(tmp_path / "a.lds").to_hdf5(tmp_path / "a.h5"))
    for name in ("verify", "samples", "report"):
        assert not hasattr(store, name)
        with pytest.raises(
            AttributeError, match=f"was not packed by largeds, so it has no '{name}'. To convert it to a store"
        ):
            getattr(store, name)
    with pytest.raises(StoreError, match="no list of samples and no hashes"):
        as_packed(store)
