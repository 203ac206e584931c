from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import largeds_native as lds
from largeds_native.errors import PackError
from largeds_native.packing import claims
from largeds_native.packing.claims import Claims
from tests.builders.trees import make_tree
from tests.packing.test_parts import SMALL

OTHER = "elsewhere-4000.77.0123abcd"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that is alive."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running
        running.communicate(b"\n")


def claim_of(out: Path, number: int, owner: str, age: float = 0.0) -> Path:
    path = out / ".pack" / f"shard-{number:05d}.{owner}"
    path.mkdir(parents=True)
    at = time.time() - age
    os.utime(path, (at, at))
    return path


def test_a_claim_is_for_one_run(tmp_path: Path) -> None:
    first, second = Claims(tmp_path), Claims(tmp_path)
    ours = first.claim(3)
    assert ours is not None
    assert ours.path.is_dir()
    assert second.claim(3) is None
    assert [claim.number for claim in second.of_others()] == [3]
    assert second.claim(4) is not None
    first.release()
    assert not ours.path.exists()
    assert second.claim(3) is not None


def test_two_at_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sees the other before it has made its own: the first name goes on."""
    mine = Claims(tmp_path)
    for owner, taken in (("a-1.7.00000000", False), ("~", True)):
        owner = owner.replace("~", "zzz-1.7.00000000")
        seen = iter([[], [path := claim_of(tmp_path, 0, owner)]])
        monkeypatch.setattr(
            Claims, "of_others", lambda self, seen=seen: [claims.Claim(p, 0, "x", 7) for p in next(seen)]
        )
        found = mine.claim(0)
        assert (found is not None) == taken
        path.rmdir()
        mine.release()


def test_the_dead_and_the_living(tmp_path: Path, process: subprocess.Popen[bytes]) -> None:
    host = claims._host()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = claim_of(tmp_path, 0, f"{host}.{ended.pid}_77.00000000")
    # one that is stopped for a while is alive, and a later process of the same number is another one
    alive = claim_of(tmp_path, 1, f"{host}.{process.pid}_{claims._start_of(process.pid)}.00000000", age=1e6)
    another = claim_of(tmp_path, 2, f"{host}.{process.pid}_77.00000001")
    elsewhere = claim_of(tmp_path, 3, OTHER)
    gone = claim_of(tmp_path, 4, OTHER, age=claims.ABANDONED_AFTER + 60)
    foreign = tmp_path / ".pack" / "notes.txt"
    foreign.touch()
    ours = Claims(tmp_path)
    assert [claim.number for claim in ours.of_others()] == [1, 3]
    assert str(ours.of_others()[0]) == f"process {process.pid}"
    assert str(ours.of_others()[1]) == "process 77 on elsewhere"
    ours.remove_abandoned()
    assert [path.exists() for path in (dead, alive, another, elsewhere, gone, foreign)] == [0, 1, 0, 1, 0, 1]


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "TOUCH_EVERY", 0.0)
    ours = Claims(tmp_path)
    one, two = ours.take(0), ours.take(1)
    for claim in (one, two):
        os.utime(claim.path, (1, 1))
    two.remove()
    time.sleep(0.01)
    ours.touch()
    assert time.time() - one.path.stat().st_mtime < 60


def test_a_pack_leaves_a_claimed_shard_to_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "tree", 2, 10)
    plan = lds.packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    theirs = claim_of(tmp_path / "out", 1, OTHER)
    packed: list[int] = []
    original = lds.packing.shard_packer.ShardPacker.pack  # type: ignore[attr-defined]

    def pack(self: Any, number: int, *rest: Any) -> Any:
        packed.append(number)
        return original(self, number, *rest)

    def wait(seconds: float) -> None:
        theirs.rmdir()  # the other process has ended without its shard

    monkeypatch.setattr("largeds_native.packing.shard_packer.ShardPacker.pack", pack)
    monkeypatch.setattr("largeds_native.packing.local_run.time.sleep", wait)
    assert len(lds.pack(tmp_path / "tree", tmp_path / "out", progress=False, **SMALL)) == 20
    assert packed == [0, 2, 3, 1]
    assert plan.shards == 4


def test_resume_false_throws_nothing_of_a_running_pack_away(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 2, 10)
    plan = lds.packing.plan(tmp_path / "tree", tmp_path / "out", **SMALL)
    lds.packing.pack_shard(plan, 0)
    theirs = claim_of(tmp_path / "out", 1, OTHER)
    with pytest.raises(PackError, match=r"another process \(process 77 on elsewhere\) is packing into .*resume=False"):
        lds.pack(tmp_path / "tree", tmp_path / "out", resume=False, progress=False, **SMALL)
    assert theirs.exists()
    assert (tmp_path / "out/shard-00000").exists()
    theirs.rmdir()
    assert len(lds.pack(tmp_path / "tree", tmp_path / "out", resume=False, progress=False, **SMALL)) == 20


def test_a_pack_of_what_nothing_identifies_is_alone(tmp_path: Path) -> None:
    paths = make_tree(tmp_path / "tree", 1, 4)
    samples = [(path.read_bytes(), 0) for path in paths]
    (tmp_path / "out").mkdir()
    theirs = claim_of(tmp_path / "out", 0, OTHER)
    with pytest.raises(PackError, match=r"process 77 on elsewhere.* nothing tells whether it packs this dataset list"):
        lds.pack(samples, tmp_path / "out", progress=False, **SMALL)
    theirs.rmdir()
    assert len(lds.pack(samples, tmp_path / "out", progress=False, **SMALL)) == 4
