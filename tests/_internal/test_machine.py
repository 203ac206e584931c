from __future__ import annotations

import os
from pathlib import Path

import pytest

from largeds_native._internal import machine


def group(root: Path, name: str, **files: str) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for key, text in files.items():
        (folder / key.replace("__", ".")).write_text(text)


def test_at_least_one_and_within_affinity() -> None:
    assert 1 <= machine.usable_threads() <= len(os.sched_getaffinity(0))


def test_quota_rounds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(machine, "cgroup_quota", lambda: 2.5)
    assert machine.usable_threads() == 3
    monkeypatch.setattr(machine, "cgroup_quota", lambda: 0.1)
    assert machine.usable_threads() == 1
    monkeypatch.setattr(machine, "cgroup_quota", lambda: None)
    assert machine.usable_threads() == 16


@pytest.mark.parametrize(("processes", "threads"), [("4", 4), ("16", 1), ("99", 1), ("1", 16), ("", 16), ("x", 16)])
def test_processes_of_torchrun_share(monkeypatch: pytest.MonkeyPatch, processes: str, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(machine, "cgroup_quota", lambda: None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert machine.usable_threads() == threads


def test_the_file_system_of_other_machines(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "36 22 0:40 / /data\\040sets rw,noatime shared:1 - nfs4 host:/x rw\n"
        "37 36 8:2 / /data\\040sets/local rw - xfs /dev/sdb rw\n"
    )
    kinds = {"/home": "", "/data sets": "nfs4", "/data sets/a/b.lds": "nfs4", "/data sets/local/b.lds": "", "/data": ""}
    for path, kind in kinds.items():
        assert machine.remote_file_system(path, tmp_path / "mounts") == kind
    assert machine.remote_file_system("/", tmp_path / "none") == ""


def test_cgroup_v2_takes_the_smallest_up_the_tree(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    group(root, "", cpu__max="max 100000\n")
    group(root, "a", cpu__max="200000 100000\n")
    group(root, "a/b", cpu__max="300000 100000\n")
    membership.write_text("0::/a/b\n")
    assert machine.cgroup_quota(root, membership) == 2.0
    membership.write_text("0::/elsewhere/not/here\n")
    assert machine.cgroup_quota(root, membership) is None


def test_cgroup_v1(tmp_path: Path) -> None:
    root, membership = tmp_path / "cgroup", tmp_path / "self"
    group(root, "cpu/job", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    group(root, "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    membership.write_text("3:cpuset:/\n1:cpu:/job\n0::/\n")
    assert machine.cgroup_quota(root, membership) == 1.5


@pytest.mark.parametrize("text", ["", "max", "abc def", "1 0", "0 100000"])
def test_invalid_quotas_are_ignored(tmp_path: Path, text: str) -> None:
    group(tmp_path, "", cpu__max=text)
    assert machine.cgroup_quota(tmp_path, tmp_path / "missing") is None


def test_the_memory_of_a_cgroup_is_the_smallest_up_the_tree(tmp_path: Path) -> None:
    root, membership, meminfo = tmp_path / "cgroup", tmp_path / "self", tmp_path / "meminfo"
    group(root, "", memory__max="max\n")
    group(root, "a", memory__max="5000000\n")
    group(root, "a/b", memory__max="7000000\n")
    group(root, "memory/job", memory__limit_in_bytes="4000000")
    membership.write_text("0::/a/b\n")
    assert machine.memory_limit(root, membership) == 5000000
    membership.write_text("4:memory:/job\n0::/\n")
    assert machine.memory_limit(root, membership) == 4000000
    whole = machine.memory_limit(tmp_path, tmp_path / "none")
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 3 kB\n")
    assert machine.usable_memory(tmp_path, meminfo) == 3072
