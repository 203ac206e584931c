"""The loader's batches are correct, safe to keep, and in reused memory; errors are clear."""

from __future__ import annotations

import gc
import itertools
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import largeds_native as lds
from largeds_native._internal.measure import drop_files
from largeds_native.errors import ArgumentError, RowIndexError
from tests.builders.stores import make_labelled_store
from tests.loading.epochs import MEAN, STD, epoch_of, labels_of, reference_batch


def test_batches_equal_totensor_and_normalize(store: Any) -> None:
    loader = lds.Loader(store, 16, shuffle=True, mean=MEAN, std=STD)
    seen = []
    for images, labels in loader:
        assert images.dtype == torch.float32
        assert images.is_contiguous()
        torch.testing.assert_close(images, reference_batch(store, labels), rtol=0, atol=1e-6)
        seen += labels.tolist()
    assert sorted(seen) == list(range(100))
    assert len(loader) == 7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_dtypes_and_layouts(store: Any, dtype: torch.dtype, channels_last: bool) -> None:
    with lds.Loader(store, 32, dtype=dtype, channels_last=channels_last) as loader:
        for images, labels in loader:
            stored = torch.stack([torch.from_numpy(np.array(store.images[i])) for i in labels.tolist()])
            expected = stored if dtype == torch.uint8 else (stored / 255).to(dtype)
            torch.testing.assert_close(images, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=0)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            assert images.is_contiguous(memory_format=layout)


def test_every_epoch_has_its_own_order_for_any_number_of_threads(store: Any) -> None:
    one, other = (
        lds.Loader(store, 16, shuffle=True, seed=3, threads=threads, prefetch=ahead)
        for threads, ahead in ((1, 0), (4, 5))
    )
    epochs = [labels_of(one) for _ in range(3)]
    assert [labels_of(other) for _ in range(3)] == epochs
    assert len({str(epoch) for epoch in epochs}) == 3
    other.set_epoch(1)
    assert labels_of(other) == epochs[1]
    assert labels_of(lds.Loader(store, 16, shuffle=True, seed=4)) not in epochs


def test_a_kept_batch_keeps_its_values(store: Any) -> None:
    loader = lds.Loader(store, 8, dtype=torch.uint8)
    kept = [images[2:4] for images, _ in loader]  # views, of every batch
    for _ in range(3):
        for _ in loader:
            pass
    for number, view in enumerate(kept):
        assert torch.equal(view, torch.from_numpy(np.array(store.images[number * 8 + 2 : number * 8 + 4])))


def test_the_ring_grows_and_shrinks(store: Any) -> None:
    loader = lds.Loader(store, 2, prefetch=2)
    for batch in itertools.chain(loader, loader):
        del batch
    assert loader.stats()["allocations"] <= 4  # two ahead, one delivered, one that is let go: no more in any epoch
    kept = epoch_of(loader)
    assert loader.stats()["slots"] >= 50
    kept.clear()
    for _ in range(4):
        for batch in loader:
            del batch
    assert loader.stats()["slots"] <= 4
    loader.close()
    assert loader.stats()["slots"] == 0


def test_a_sliding_window_of_kept_batches_does_not_allocate(store: Any) -> None:
    loader = lds.Loader(store, 2)
    window: list[Any] = []
    allocations = []
    for _ in range(6):
        for batch in loader:
            window = [*window[-7:], batch]
        allocations.append(loader.stats()["allocations"])
    assert allocations[-1] <= 20, allocations  # of 300 batches


def test_threads_share_an_iterator(store: Any) -> None:
    iterator = iter(lds.Loader(store, 3))
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(sum((b[1].tolist() for b in iterator), []))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(100))


def test_a_huge_batch_takes_no_more_than_the_store(store: Any) -> None:
    assert labels_of(lds.Loader(store, 1 << 40)) == [list(range(100))]
    with pytest.raises(ArgumentError, match="expected a Store"):
        lds.Loader("train.lds", 4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(lds.Loader(store, 4))


def test_an_error_is_raised_at_its_batch_and_the_next_is_complete(store: Any) -> None:
    iterator = iter(lds.Loader(store, 2, order=[1, 2, 500, 3, 4, 5]))
    assert next(iterator)[1].tolist() == [1, 2]
    with pytest.raises(RowIndexError, match="row 500"):
        next(iterator)
    assert next(iterator)[1].tolist() == [4, 5]


def test_fields_of_any_shape(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    from PIL import Image

    for i in range(6):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    table.write_text("path,label,weight\n" + "".join(f"{i}.png,{i % 2},{i / 2}\n" for i in range(6)))
    store = lds.pack(table, tmp_path / "s.lds", resize=None, crop=None, progress=False)
    loader = lds.Loader(store, 4, fields=("weight", "label"), dtype=torch.uint8)
    images, weight, label = next(iter(loader))
    assert weight.tolist() == [0, 0.5, 1, 1.5]
    assert label.tolist() == [0, 1, 0, 1]
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert len(next(iter(lds.Loader(store, 4, fields=())))) == 1


def test_fields_by_default(store: Any, tmp_path: Path) -> None:
    """The default is the label; a store without labels yields tuples with only the images."""
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), np.uint8)
    unlabelled = lds.pack(lds.sources.arrays(images), tmp_path / "u.lds", resize=None, crop=None, progress=False)
    loader = lds.Loader(unlabelled, 3, dtype=torch.uint8)
    (first,), (second,) = loader
    assert torch.equal(torch.cat([first, second]), torch.from_numpy(images))
    assert (loader.fields, lds.Loader(store, 3).fields, lds.Loader(store, 3, fields=()).fields) == ((), ("label",), ())


def test_attributes_of_dataloader(store: Any) -> None:
    loader = lds.Loader(store, 16)
    assert (loader.dataset, loader.num_workers, loader.batch_sampler) == (store, 0, None)
    assert isinstance(loader.sampler, torch.utils.data.SequentialSampler)
    assert list(loader.sampler) == list(range(100))
    assert len(lds.Loader(store, 16, indices=[5, 3]).sampler or ()) == 2
    given = torch.utils.data.RandomSampler(range(100))
    assert lds.Loader(store, 16, order=given).sampler is given
    batches = torch.utils.data.BatchSampler(given, 4, drop_last=False)
    for options in ({"shuffle": True}, {"order": batches}, {"order": [1, 2]}, {"weights": np.ones(100)}):
        assert lds.Loader(store, 16, **options).sampler is None


def test_stats(store: Any) -> None:
    loader = lds.Loader(store, 10, dtype=torch.uint8)
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(4)]
    stats = loader.stats()
    assert (stats["batches"], stats["samples"], stats["bytes"]) == (4, 40, 40 * 3 * 8 * 8)
    assert stats["images_per_second"] > 0
    assert 0 <= stats["waiting_share"] <= 1
    assert stats["pending"] <= 3
    assert stats["slots_in_use"] >= len(kept)
    assert len(list(iterator)) == 6


def test_rows_that_are_not_in_memory_are_read_ahead(tmp_path: Path) -> None:
    store = make_labelled_store(tmp_path, 200, 64)
    files = [file.path for file in store.files("images")]
    expected = labels_of(lds.Loader(store, 10, shuffle=True, seed=5))
    for advice in (os.POSIX_FADV_DONTNEED, os.POSIX_FADV_WILLNEED):
        store.close()
        gc.collect()  # a mapped page stays
        fresh = lds.open(store.path)
        drop_files(files)
        for path in files if advice == os.POSIX_FADV_WILLNEED else []:
            path.read_bytes()
        loader = lds.Loader(fresh, 10, shuffle=True, seed=5, prefetch=0)
        iterator = iter(loader)
        assert [next(iterator)[1].tolist() for _ in range(5)] == expected[:5]
        assert loader.stats()["read_ahead"] <= (50 if advice == os.POSIX_FADV_DONTNEED else 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_reader_who_may_not_write_the_files_has_rows_requested_ahead_too() -> None:
    """mincore tells such a reader that everything is in memory."""
    with tempfile.TemporaryDirectory() as name:  # tmp_path is root's alone
        Path(name).chmod(0o755)
        store = make_labelled_store(Path(name), 100, 64)
        store.close()
        program = Path(__file__).parents[1] / "programs" / "load_as_another_user.py"
        done = subprocess.run(
            [sys.executable, program, store.path], capture_output=True, text=True, timeout=200, check=False
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cold"] > 50
    assert found["warm"] == 0 or not found["told"]
