"""A pack whose store is written to object storage.

Each process has a folder of its own, the mirror, in which shards are packed as in any folder. A shard is uploaded
before it gets its name there, its record last; then the mirror keeps what is small of it, and drops the rows. What is
in the bucket decides: each plan and each commit first bring the mirror to its state, and a shard whose record is there
is neither packed nor uploaded again.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from largeds_native._internal.objects import ObjectFolder
from largeds_native._internal.urls import without_credentials
from largeds_native.errors import LargedsError, MissingObjectError, PackError, StorageError, StoreError
from largeds_native.store.format import manifest, sample_log, shard_record
from largeds_native.store.format.files import atomic_write_bytes
from largeds_native.store.format.manifest import PLAN_NAME, Manifest
from largeds_native.store.remote.shard_files import row_files
from largeds_native.store.report import NAME as REPORT

REQUESTS = 32  # at once
SMALL_BYTES = 1 << 30  # the most of a manifest, a list of samples, or labels
LARGE = (".bin", ".npy")  # endings of the files of rows and fields
KEPT = ("label.npy",)  # of which classes are numbered
_SHARD_FILE = re.compile(r"(shard-\d{5,9})/([\w.-]+)")


def _remove(process: int, folder: Path) -> None:
    if process == os.getpid():  # not in a forked child, which has a folder of its own
        shutil.rmtree(folder, ignore_errors=True)


class Mirror:
    """The bucket at `url`, and this process's folder for it."""

    def __init__(self, url: str) -> None:
        self.url = without_credentials(url).rstrip("/")
        self._bucket = ObjectFolder(url)
        self._sizes: dict[str, int] = {}  # of the objects, by key, as they were last listed
        self._folder: tuple[int, Path] | None = None  # (process, folder)

    def __reduce__(self) -> tuple[type[Mirror], tuple[str]]:
        return Mirror, (self._bucket._url,)

    @property
    def folder(self) -> Path:
        """Of this process, made at its first use, and removed when the process ends."""
        if self._folder is None or self._folder[0] != os.getpid():
            try:
                path = Path(tempfile.mkdtemp(prefix="largeds-pack-"))
            except OSError as error:
                raise StorageError(error.errno, f"{error.filename}: {error.strerror}; see TMPDIR") from None
            self._folder = os.getpid(), path
            weakref.finalize(self, _remove, os.getpid(), path)
        return self._folder[1]

    def pull(self) -> None:
        """Brings the folder to the state of the bucket: the job, or the manifest and report, and the records of
        shards. Raises PackError if something else is there."""
        try:
            self._pull()
        except MissingObjectError as error:
            if "there is no bucket" in str(error):
                raise
            self._pull()  # another process has just finished the store, and removed its job

    def _pull(self) -> None:
        self._sizes = {one.key: one.size for one in self._bucket.list()}
        tops = {key for key in self._sizes if "/" not in key}
        foreign = sorted(key for key in self._sizes if key not in (PLAN_NAME, manifest.NAME))
        if foreign and not tops & {PLAN_NAME, manifest.NAME}:
            raise PackError(f"{self.url} exists and is not a store (it holds {foreign[0]!r}): choose another output")
        for name in (PLAN_NAME, REPORT, manifest.NAME):
            if name in tops:
                atomic_write_bytes(self.folder / name, self._read(name))
            else:
                (self.folder / name).unlink(missing_ok=True)
        there = self._shards()
        for path in self.folder.glob("shard-*"):
            if path.name not in there:
                shutil.rmtree(path, ignore_errors=True)
        self._fetch([name for name in there if not (self.folder / name).exists()])

    def fetch_logs(self, names: list[str], needed: Callable[[str], bool]) -> None:
        """Fetches the lists of samples, and labels, of these shards, of which `needed` tells by key."""
        keys = [f"{name}/{file}" for name in names for file in (sample_log.NAME, *KEPT)]
        missing = [key for key in keys if needed(key) and key in self._sizes and not (self.folder / key).exists()]
        with ThreadPoolExecutor(REQUESTS) as pool:
            for key, data in zip(missing, pool.map(self._read, missing), strict=True):
                atomic_write_bytes(self.folder / key, data)

    def fetch_log(self, name: str) -> None:
        """Fetches the list of samples of a shard."""
        path = self.folder / name / sample_log.NAME
        if not path.exists():
            atomic_write_bytes(path, self._read(f"{name}/{sample_log.NAME}"))

    def find(self, name: str) -> None:
        """Fetches the record of a shard, if it is in the bucket."""
        with suppress(MissingObjectError):
            self._fetch([name])

    def send_shard(self, name: str, folder: Path) -> None:
        """Uploads a shard from its temporary folder, and drops what is large of it there. One that another process has
        uploaded meanwhile stays as it is: readers may use it already."""
        files = sorted(path for path in folder.iterdir() if path.name != shard_record.NAME)
        if not self._bucket.exists(f"{name}/{shard_record.NAME}"):
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
        if PLAN_NAME in self._sizes:  # who only reads may have no permission
            with suppress(MissingObjectError):
                self._bucket.delete(PLAN_NAME)
        _remove(os.getpid(), self.folder)
        self._folder = None

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors name the URL in the place of the folder on this machine."""
        try:
            yield
        except LargedsError as error:
            here = str(self.folder) if self._folder is not None else self.url
            if here not in str(error):
                raise
            error.args = tuple(one.replace(here, self.url) if isinstance(one, str) else one for one in error.args)
            if isinstance(error, OSError) and isinstance(error.strerror, str):
                error.strerror = error.strerror.replace(here, self.url)
            raise

    def _read(self, key: str) -> bytes:
        """Of a small file: whatever is in the bucket, it fits into memory."""
        data = self._bucket.read(key, 0, SMALL_BYTES + 1)
        if len(data) > SMALL_BYTES:
            raise StoreError(f"{self.url}/{key}: expected at most {SMALL_BYTES:,} bytes, found more")
        return data

    def _shards(self) -> list[str]:
        """Those that are there as a whole: their record comes last."""
        found = (_SHARD_FILE.fullmatch(key) for key in self._sizes)
        return sorted(one[1] for one in found if one is not None and one[2] == shard_record.NAME)

    def _fetch(self, names: list[str]) -> None:
        with ThreadPoolExecutor(REQUESTS) as pool:
            records = pool.map(lambda name: self._read(f"{name}/{shard_record.NAME}"), names)
            for name, record in zip(names, records, strict=True):
                (self.folder / name).mkdir(exist_ok=True)
                atomic_write_bytes(self.folder / name / shard_record.NAME, record)
