"""The processors and memory that this process may use, by its CPU affinity and its cgroup's limits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MAX_THREADS = 1024
REMOTE = {  # file systems whose files are on other machines
    *("nfs", "nfs4", "cifs", "smb3", "lustre", "ceph", "gpfs", "beegfs", "afs"),
    *(f"fuse.{name}" for name in ("sshfs", "s3fs", "gcsfuse", "juicefs", "rclone", "glusterfs", "ceph-fuse")),
}
CGROUP_ROOT = Path("/sys/fs/cgroup")


def usable_threads() -> int:
    """This process's share of the threads that can run at once, at least 1: min(CPU affinity, cgroup v1/v2 CPU quota
    rounded up), divided by the processes that torchrun started on this machine (LOCAL_WORLD_SIZE)."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    usable = affinity if quota is None else min(affinity, math.ceil(quota))
    return max(1, usable // local_processes())


def local_processes() -> int:
    """How many processes share this machine's processors, as torchrun says; 1 where nobody says."""
    try:
        return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    except ValueError:
        return 1


def cgroup_quota(root: Path = CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """The smallest CPU quota, in processors, of this process's cgroup and its parents; None if there is no quota."""
    folders = _groups(root, membership, "cpu", "cpu,cpuacct")
    quotas = [quota for folder in folders if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def usable_memory(root: Path = CGROUP_ROOT, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that this process and its files in the page cache may use: the system's available memory, or the limit of
    the cgroup if that is smaller."""
    limit = memory_limit(root)
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        return min(limit, int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        return limit


def memory_limit(root: Path = CGROUP_ROOT, membership: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes of the system's memory, or the smallest limit of this process's cgroup and its parents if that is less."""
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for folder in _groups(root, membership, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # "max" means that there is no limit
                limit = min(limit, int((folder / name).read_text()))
    return limit


def remote_file_system(path: str | os.PathLike[str], mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of the file system of a path, as "nfs4", if its files are on another machine; else ""."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return ""
    real, found, kind = Path(os.path.realpath(path)), "", ""
    for line in lines:  # "36 35 98:0 / /mnt rw,noatime shared:1 - ext3 /dev/root rw"
        point = line[4].replace(r"\040", " ")
        if len(point) >= len(found) and real.is_relative_to(point):
            found, kind = point, line[line.index("-") + 1]
    return kind if kind in REMOTE else ""


def _groups(root: Path, membership: Path, *controllers: str) -> Iterator[Path]:
    """The folders of this process's cgroup and its parents, in the unified hierarchy (v2) and in v1's of the first of
    these controllers, which may be mounted by each of these names.

    Inside a container the group's path may be that of the host and not exist; then the mount point itself is our group.
    """
    found = [(root / mount, "") for mount in ("", *controllers)]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, named, group = [*line.split(":", 2), "", ""][:3]
        group = group.strip().lstrip("/")
        if ".." in group.split("/"):
            continue
        if not named:
            found += [(root, group), (root / "unified", group)]
        elif controllers[0] in named.split(","):
            found += [(root / controllers[0], group), (root / named, group)]
    for mount, group in found:
        yield from (folder for folder in (mount / group, *(mount / group).parents) if folder.is_relative_to(mount))


def _quota_of(folder: Path) -> float | None:
    """v2's cpu.max is 'max 100000' or '150000 100000'; v1 has two files, with -1 for no limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None
