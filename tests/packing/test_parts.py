"""A pack by several processes: plan, pack_shard, commit."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import largeds_native as lds
from largeds_native import packing
from largeds_native.errors import ArgumentError, DecodeError, PackError, StoreError
from largeds_native.packing import planning, resume, shard_packer
from largeds_native.packing.local_run import pack_here
from tests.builders.masks import make_mask_tree
from tests.builders.trees import make_tree
from tests.packing.test_pack import files_of

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"resize": 16, "crop": 12, "shard_bytes": 5 * 3 * 12 * 12}
JPEG: dict[str, Any] = {"codec": "jpeg", "resize": 16, "shard_bytes": 5000}


def sent(value: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def pack_apart(source: Any, out: Path, **options: Any) -> Any:
    """Each shard from its own part of the plan, the last one first."""
    plan = packing.plan(source, out, **options)
    assert plan.shards is not None
    assert plan.shards > 1
    for number in reversed(range(plan.shards)):
        packing.pack_shard(sent(plan.part(number)), number)
    return packing.commit(sent(plan))


def table_of(paths: list[Path], file: Path) -> Path:
    rows = [f"{path.relative_to(file.parent)},{i % 2}" for i, path in enumerate(paths)]
    file.write_text("\n".join(["path,label", *rows]) + "\n")
    return file


def parquet_of(paths: list[Path], file: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [{"bytes": path.read_bytes(), "path": None} for path in paths]
    pq.write_table(pa.table({"image": cells, "label": [i % 2 for i in range(len(paths))]}), file, row_group_size=4)
    return file


def tar_of(paths: list[Path], file: Path) -> Path:
    import tarfile

    with tarfile.open(file, "w") as archive:
        for i, path in enumerate(paths):
            archive.add(path, f"{i:05d}{path.suffix}")
    return file


class Images:
    """A torch Dataset, of module level so that it can be pickled."""

    classes = ("even", "odd")

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.random.default_rng(index).integers(0, 256, (20, 30, 3), np.uint8), index % 2


def hugging_face(paths: list[Path]) -> Any:
    from datasets import ClassLabel, Dataset, Features, Image

    rows = {"image": [str(path) for path in paths], "label": [i % 2 for i in range(len(paths))]}
    return Dataset.from_dict(rows, Features({"image": Image(), "label": ClassLabel(names=["a", "b"])}))


SOURCES: dict[str, Callable[[Path, list[Path]], Any]] = {
    "folder": lambda root, paths: root / "tree",
    "table": lambda root, paths: table_of(paths, root / "table.csv"),
    "images inside of a table": lambda root, paths: parquet_of(paths, root / "table.parquet"),
    "tar": lambda root, paths: tar_of(paths, root / "shard.tar"),
    "arrays": lambda root, paths: (np.random.default_rng(0).integers(0, 256, (13, 20, 30, 3), np.uint8), np.arange(13)),
    "dataset": lambda root, paths: Images(),
    "list of files": lambda root, paths: paths,
    "hugging face": lambda root, paths: hugging_face(paths),
    "store": lambda root, paths: lds.pack(root / "tree", root / "first.lds", progress=False, **JPEG),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("options", [SMALL, JPEG, SMALL | {"shuffle": 3}], ids=["raw", "jpeg", "shuffled"])
def test_shards_apart_equal_one_process(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    pytest.importorskip("datasets" if kind == "hugging face" else "numpy")
    paths = make_tree(tmp_path / "tree", 3, 6)
    source = SOURCES[kind](tmp_path, paths)
    whole = lds.pack(source, tmp_path / "whole", progress=False, **options)
    apart = pack_apart(source, tmp_path / "apart", **options)
    assert files_of(apart.path) == files_of(whole.path)
    assert apart.report.packed == whole.report.packed
    assert sorted(os.listdir(apart.path)) == sorted(os.listdir(whole.path))


@pytest.mark.parametrize("options", [SMALL, JPEG], ids=["raw", "jpeg"])
def test_masks_and_failures(tmp_path: Path, options: dict[str, Any]) -> None:
    make_mask_tree(tmp_path, each=8)
    paths = sorted((tmp_path / "images").rglob("*.jpg"))
    paths[3].write_bytes(b"rotten")
    further = {"masks": tmp_path / "masks", "max_failures": 1, "classes": None}
    whole = lds.pack(tmp_path / "images", tmp_path / "whole", progress=False, **options, **further)
    apart = pack_apart(tmp_path / "images", tmp_path / "apart", **options, **further)
    assert files_of(apart.path) == files_of(whole.path)
    assert apart.report.failed == whole.report.failed
    assert apart.report.failures == whole.report.failures
    assert "time" not in str(apart.report)  # nobody knows what the other processes needed


@settings(max_examples=12, deadline=None)
@given(parts=st.integers(1, 9), per_shard=st.integers(1, 7), order=st.randoms())
def test_any_number_of_parts(tmp_path_factory: pytest.TempPathFactory, parts: int, per_shard: int, order: Any) -> None:
    top = tmp_path_factory.mktemp("parts")
    make_tree(top / "tree", 2, 6)
    options = SMALL | {"shard_bytes": per_shard * 3 * 12 * 12}
    whole = lds.pack(top / "tree", top / "whole", progress=False, **options)
    numbers = list(range(1, parts + 1))
    order.shuffle(numbers)
    seen: list[int] = []
    for part in numbers:
        plan = packing.plan(top / "tree", top / "out", **options)
        seen += plan.numbers(part, parts)
        pack_here(plan, (part, parts), progress=False)
    assert sorted(seen) == list(range(len(whole.shards)))
    assert files_of(packing.commit(plan).path) == files_of(whole.path)


def test_commit_too_early_names_what_is_missing(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 10)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    packing.pack_shard(plan, 1)
    with pytest.raises(PackError, match=r"3 of the 4 shards are not packed yet in .*out: 0, 2, 3\. "):
        packing.commit(plan)
    assert not (tmp_path / "out/manifest.json").exists()
    with pytest.raises(StoreError, match="unfinished pack"):
        lds.open(tmp_path / "out")
    store = lds.pack(tmp_path / "tree", tmp_path / "out", progress=False, **SMALL)
    assert store.report is not None
    assert store.report.resumed_shards == 1
    assert packing.commit(plan).identity == store.identity  # once more changes nothing
    assert packing.pack_shard(plan, 2).rows == 5


def test_a_shard_that_is_there_wins(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    first = packing.pack_shard(plan, 0)
    before = os.stat(tmp_path / "out/shard-00000").st_ino
    assert packing.pack_shard(plan, 0) == first
    assert os.stat(tmp_path / "out/shard-00000").st_ino == before


def test_two_processes_pack_one_shard_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", progress=False, **SMALL)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    original = shard_packer.ShardPacker.finish

    def slow(self: Any) -> None:
        time.sleep(0.2)
        original(self)

    monkeypatch.setattr(shard_packer.ShardPacker, "finish", slow)
    with ThreadPoolExecutor(4) as pool:
        records = list(pool.map(lambda i: packing.pack_shard(sent(plan), i // 2), range(4)))
    assert records[0] == records[1]
    assert records[2] == records[3]
    assert os.listdir(tmp_path / "out/.pack") == []
    assert files_of(packing.commit(plan).path) == files_of(whole.path)


def test_another_process_finishes_first_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    again = sent(plan)
    original = shard_packer.ShardFiller.fill

    def overtaken(self: Any, *rest: Any) -> None:
        original(self, *rest)
        monkeypatch.setattr(shard_packer.ShardFiller, "fill", original)
        lds.pack(tmp_path / "tree", tmp_path / "out", progress=False, **SMALL)

    monkeypatch.setattr(shard_packer.ShardFiller, "fill", overtaken)
    monkeypatch.setattr("largeds_native.packing.claims._is_alive", lambda claim, now: False)
    assert packing.pack_shard(again, 0).rows == 5
    assert sorted(os.listdir(tmp_path / "out")) == ["manifest.json", "report.json", "shard-00000", "shard-00001"]


@pytest.mark.parametrize("processes", [3])
def test_processes_that_all_call_pack_share_the_shards(tmp_path: Path, processes: int) -> None:
    """As the ranks of a run do."""
    make_tree(tmp_path / "tree", 3, 20)
    options = SMALL | {"shard_bytes": 3 * 12 * 12}
    whole = lds.pack(tmp_path / "tree", tmp_path / "whole", progress=False, **options)
    program = (
        "import sys, largeds_native as lds\n"
        f"store = lds.pack({str(tmp_path / 'tree')!r}, {str(tmp_path / 'out')!r}, **{options!r}, threads=1)\n"
        "print(len(store), store.identity)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    outputs = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0] * processes
    assert outputs == {f"60 {whole.identity}\n"}
    assert files_of(tmp_path / "out") == files_of(whole.path)


def test_another_process_removes_the_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, removed = resume.atomic_write_bytes, []

    def overtaken(path: Path, data: bytes, temporary: Path) -> None:
        if len(removed) < 3:
            removed.append(temporary.parent.rmdir())
        original(path, data, temporary)

    monkeypatch.setattr(resume, "atomic_write_bytes", overtaken)
    resume.publish(tmp_path / "report.json", b"{}")
    assert (tmp_path / "report.json").read_bytes() == b"{}"
    monkeypatch.setattr(resume, "TRIES", 2)
    with pytest.raises(FileNotFoundError):  # the store itself is gone
        resume.publish(tmp_path / "gone" / "report.json", b"{}")


def test_killed_in_a_shard(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    child = os.fork()
    if child == 0:
        shard_packer.ShardPacker.finish = lambda self: time.sleep(60)  # type: ignore[method-assign]
        shard_packer.Finisher.add = lambda self, number, finish: None  # type: ignore[method-assign]
        packing.pack_shard(plan, 0)
        os._exit(0)
    while not any((tmp_path / "out/.pack").glob("shard-00000.*/images.npy")):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    store = lds.pack(tmp_path / "tree", tmp_path / "out", progress=False, **SMALL)  # at once: its process is gone
    assert len(store) == 10
    assert not (tmp_path / "out/.pack").exists()


def test_other_libraries_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    packing.pack_shard(plan, 0)
    other = {**planning.library_versions(), "pillow": "1.2.3"}
    words = re.escape(f"pillow 1.2.3 where the plan has {plan.libraries['pillow']}")
    with monkeypatch.context() as patch:
        patch.setattr(shard_packer, "library_versions", lambda: other)
        patch.setattr(planning, "library_versions", lambda: other)
        with pytest.raises(PackError, match=f"this machine has other libraries.*{words}"):
            packing.pack_shard(plan, 1)
        with pytest.raises(PackError, match="pillow was"):
            packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
        elsewhere = packing.plan(tmp_path / "tree", tmp_path / "elsewhere", **SMALL)
        packing.pack_shard(elsewhere, 1)
    (tmp_path / "elsewhere/shard-00001").rename(tmp_path / "out/shard-00001")
    with pytest.raises(PackError, match=f"shard-00001 was packed with other libraries.*{words}"):
        packing.commit(plan)
    assert not (tmp_path / "out/manifest.json").exists()


def test_another_plan_in_the_same_folder(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    with pytest.raises(PackError, match=r"unfinished pack of another job \(crop was \[12, 12\], is now \[8, 8\]\)"):
        packing.plan(tmp_path / "tree", tmp_path / "out", **{**SMALL, "crop": 8})
    other = packing.plan(tmp_path / "tree", tmp_path / "other", **SMALL | {"interpolation": "nearest"})
    packing.pack_shard(other, 0)
    (tmp_path / "other/shard-00000").rename(tmp_path / "out/shard-00000")
    packing.pack_shard(plan, 1)
    for call in (packing.commit, lambda plan: packing.pack_shard(plan, 0)):
        with pytest.raises(PackError, match="shard-00000 is the shard of another plan: remove it"):
            call(plan)


def test_a_shard_that_was_cut_when_it_was_copied(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    for number in range(2):
        packing.pack_shard(plan, number)
    os.truncate(tmp_path / "out/shard-00001/images.npy", 5000)
    with pytest.raises(StoreError, match=r"shard-00001/images\.npy"):
        packing.commit(plan)
    assert not (tmp_path / "out/manifest.json").exists()


def test_numbers_out_of_range_and_arguments_of_pack(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 5)
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    for number in (-1, 2, True, 1.0):
        with pytest.raises(ArgumentError, match="number: expected a shard from 0 to 1, found"):
            packing.pack_shard(plan, number)  # type: ignore[arg-type]
    for part in ((0, 4), (5, 4), (1, 0)):
        with pytest.raises(ArgumentError, match="part: expected one from 1/"):
            plan.numbers(*part)
    with pytest.raises(ArgumentError, match="progress is an argument of pack, not of plan"):
        packing.plan(tmp_path / "tree", tmp_path / "out", progress=False)
    with pytest.raises(TypeError, match="colour"):
        packing.plan(tmp_path / "tree", tmp_path / "out", colour=True)
    with pytest.raises(ArgumentError, match="engine: expected 'ray' or None, found 'spark'"):
        lds.pack(tmp_path / "tree", tmp_path / "out", engine="spark", **SMALL)  # type: ignore[arg-type]


def test_what_is_read_from_its_start_to_its_end_is_packed_by_one_process(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 4)
    samples = [(path.read_bytes(), 0) for path in paths]
    words = "iterable of encoded images is read from its start to its end, so one process packs it"
    plan = packing.plan(iter(samples), tmp_path / "out", **SMALL)
    for call in (lambda: packing.commit(plan), lambda: plan.numbers(1, 2)):
        with pytest.raises(ArgumentError, match=words):
            call()
    pytest.importorskip("ray")
    with pytest.raises(ArgumentError, match=words):
        lds.pack(iter(samples), tmp_path / "out2", engine="ray", progress=False, **SMALL)


def test_failures_of_other_processes_count(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 2, 5)
    paths[2].write_bytes(b"rotten")
    plan = packing.plan(tmp_path / "tree", tmp_path / "out", max_failures=0, **SMALL)
    for number in range(2):
        packing.pack_shard(plan, number)
    with pytest.raises(PackError, match="1 of the 10 images"):
        packing.commit(plan)
    strict = packing.plan(tmp_path / "tree", tmp_path / "out", on_error="raise", **SMALL)
    with pytest.raises(DecodeError, match=r"0002\.webp.*it failed when an earlier run packed"):
        packing.pack_shard(strict, 0)
    assert len(packing.commit(packing.plan(tmp_path / "tree", tmp_path / "out", max_failures=1, **SMALL))) == 9
