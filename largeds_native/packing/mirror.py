"""A pack whose store is written to object storage.

Each machine has a folder of its own, the mirror, in which shards are packed as in any folder. A shard is uploaded
before it gets its name there, its record last; then the mirror keeps what is small of it, and drops the rows. What is
in the bucket decides: each plan and each commit first bring the mirror to its state.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.urls import without_credentials
from largeds_native.errors import LargedsError, MissingObjectError, PackError, StorageError, StoreError
from largeds_native.packing.claims import Claims
from largeds_native.store.format import manifest, sample_log, shard_record
from largeds_native.store.format.files import atomic_write_bytes
from largeds_native.store.format.manifest import PLAN_NAME, Manifest
from largeds_native.store.remote.shard_files import row_files
from largeds_native.store.report import NAME as REPORT

REQUESTS = 32  # at once
LARGE = (".bin", ".npy")  # endings of the files of rows and fields
KEPT = ("label.npy",)  # of which classes are numbered
_SHARD_FILE = re.compile(r"(shard-\d{5,9})/([\w.-]+)")


class Mirror:
    """The bucket at `url`, and the folder for it on this machine."""

    def __init__(self, url: str) -> None:
        self.url = without_credentials(url).rstrip("/")
        self._bucket = ObjectFolder(url)
        self._sizes: dict[str, int] = {}  # of the objects, by key, as they were last listed

    def __reduce__(self) -> tuple[type[Mirror], tuple[str]]:
        return Mirror, (self._bucket._url,)

    @property
    def folder(self) -> Path:
        """It is made at the first use on a machine, readable by this user alone."""
        name = f"largeds-pack-{os.getuid()}-{hashlib.sha256(self.url.encode()).hexdigest()[:16]}"
        path = Path(tempfile.gettempdir()) / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            state = os.lstat(path)
        except OSError as error:
            raise StorageError(error.errno, f"{path}: {error.strerror}; TMPDIR names another folder") from None
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
            raise StorageError(f"{path} belongs to somebody else: set TMPDIR to a folder of yours")
        return path

    def pull(self) -> None:
        """Brings the folder to the state of the bucket: the job, or the manifest and report, and the records of
        shards. Raises PackError if something else is there."""
        self._sizes = {one.key: one.size for one in self._bucket.list()}
        tops = {key for key in self._sizes if "/" not in key}
        foreign = sorted(key for key in self._sizes if key not in (PLAN_NAME, manifest.NAME))
        if foreign and not tops & {PLAN_NAME, manifest.NAME}:
            raise PackError(f"{self.url} exists and is not a store (it holds {foreign[0]!r}): choose another output")
        for name in (PLAN_NAME, REPORT, manifest.NAME):
            if name in tops:
                atomic_write_bytes(self.folder / name, self._bucket.read(name))
            else:
                (self.folder / name).unlink(missing_ok=True)
        there = self._shards()
        if not Claims(self.folder).of_others():
            for path in self.folder.glob("shard-*"):
                if path.name not in there:
                    shutil.rmtree(path, ignore_errors=True)
        self._fetch([name for name in there if not (self.folder / name).exists()])

    def fetch_logs(self, names: list[str], needed: Callable[[str], bool]) -> None:
        """Fetches the lists of samples, and labels, of these shards, of which `needed` tells by key."""
        keys = [f"{name}/{file}" for name in names for file in (sample_log.NAME, *KEPT)]
        missing = [key for key in keys if needed(key) and key in self._sizes and not (self.folder / key).exists()]
        with ThreadPoolExecutor(REQUESTS) as pool:
            for key, data in zip(missing, pool.map(self._bucket.read, missing), strict=True):
                atomic_write_bytes(self.folder / key, data)

    def send_shard(self, name: str, folder: Path) -> None:
        """Uploads a shard from its temporary folder, and drops what is large of it there."""
        files = sorted(path for path in folder.iterdir() if path.name != shard_record.NAME)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda path: self._bucket.write(f"{name}/{path.name}", path), files))
        self._bucket.write(f"{name}/{shard_record.NAME}", folder / shard_record.NAME)
        for path in files:
            if path.suffix in LARGE and path.name not in KEPT:
                path.unlink()

    def send(self, name: str) -> None:
        """Uploads the job, the report or the manifest."""
        self._bucket.write(name, (self.folder / name).read_bytes())

    def check_complete(self, written: Manifest) -> None:
        """Raises StoreError if a file of a shard is missing in the bucket, or of another size."""
        for entry in written.shards:
            for name, size in row_files(written, entry).items():
                found = self._sizes.get(f"{entry.name}/{name}")
                if found not in (size, -1):
                    what = "is missing" if found is None else f"has {found:,} bytes"
                    raise StoreError(f"{self.url}/{entry.name}/{name}: expected {size:,} bytes, and it {what}")

    def remove_shards(self) -> None:
        """Removes the shards of an unfinished pack that is begun again."""
        keys = [key for key in self._sizes if _SHARD_FILE.fullmatch(key)]
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(self._bucket.delete, keys))

    def finish(self) -> None:
        """Removes the job, of which nothing is left to do, and the folder."""
        with suppress(MissingObjectError):
            self._bucket.delete(PLAN_NAME)
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors name the URL in the place of the folder on this machine."""
        try:
            yield
        except LargedsError as error:
            here = str(self.folder)
            if here not in str(error):
                raise
            error.args = tuple(one.replace(here, self.url) if isinstance(one, str) else one for one in error.args)
            if isinstance(error, OSError) and isinstance(error.strerror, str):
                error.strerror = error.strerror.replace(here, self.url)
            raise

    def _shards(self) -> list[str]:
        """Those that are there as a whole: their record comes last."""
        found = (_SHARD_FILE.fullmatch(key) for key in self._sizes)
        return sorted(one[1] for one in found if one is not None and one[2] == shard_record.NAME)

    def _fetch(self, names: list[str]) -> None:
        with ThreadPoolExecutor(REQUESTS) as pool:
            records = pool.map(lambda name: self._bucket.read(f"{name}/{shard_record.NAME}"), names)
            for name, record in zip(names, records, strict=True):
                (self.folder / name).mkdir(exist_ok=True)
                atomic_write_bytes(self.folder / name / shard_record.NAME, record)
