"""The report of a pack: counts, failures, speed, bottleneck. It is in report.json, not part of the store's identity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from largeds_native._internal.units import size

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

NAME = "report.json"
LISTED = 1000  # failures listed in the report; samples.parquet has all of them


@dataclass(frozen=True)
class Failure:
    """A sample that failed: its source, the reason in one word, and the error message."""

    source: str
    reason: str
    error: str


LIMITS = {  # of a pack, and what they mean
    "source": "source: the threads waited for the source to name or make the next images",
    "source read": "source read: the threads waited for the bytes of files",
    "decode": "decode: the threads worked all the time; more processors make it faster",
    "disk write": "disk write: the threads waited for the disk that takes the rows",
}


@dataclass(frozen=True)
class Report:
    """Counts are those of the whole store; seconds and speeds are those of the last run, 0 if it packed nothing itself.

    source, root: what was packed, in words; and the folder of the images, or None.
    packed, total: number of images that were packed, and of all.
    failed: number of failures by reason.
    failures: the first 1,000 of them.
    decoders: number of images by decoder.
    shards, resumed_shards: number of shards, and of those that an earlier run had finished.
    seconds, images_per_second, source_mb_per_second, written_mb_per_second, threads: of the last run, in MB of 10^6
        bytes.
    limit: what the threads of the last run waited for: "source" (to make the next images), "source read" (the bytes of
        files), "disk write"; or "decode", if they worked all the time.
    notes: what the source used for the label, and what it left out.
    files: a digest of the sizes, times and inodes of the source's files when the pack began.
    kept: of JPEG rows, the number of those kept in each way: "verbatim", "transcoded", "shrunk" or "encoded".
    source_bytes, row_bytes: of JPEG rows, the bytes of the packed images in the source, and in the store.
    psnr_measured, psnr_mean, psnr_smallest: of every 16th sample that was shrunk or encoded, how close its row is to
        the pixels that were encoded, in decibels.
    """

    source: str
    packed: int
    failed: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    decoders: Mapping[str, int] = field(default_factory=dict)
    shards: int = 0
    resumed_shards: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    source_mb_per_second: float = 0.0
    written_mb_per_second: float = 0.0
    threads: int = 1
    limit: str = ""
    root: str | None = None
    notes: tuple[str, ...] = ()
    files: str = ""
    kept: Mapping[str, int] = field(default_factory=dict)
    source_bytes: int = 0
    row_bytes: int = 0
    psnr_measured: int = 0
    psnr_mean: float | None = None
    psnr_smallest: float | None = None

    @property
    def total(self) -> int:
        """Number of samples, packed or failed."""
        return self.packed + sum(self.failed.values())

    def to_bytes(self) -> bytes:
        return (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode()

    @classmethod
    def read(cls, folder: Path) -> Report | None:
        """None if the folder has no valid report, which a store does not need."""
        try:
            return cls.of((folder / NAME).read_bytes())
        except OSError:
            return None

    @classmethod
    def of(cls, data: bytes) -> Report | None:
        """The report in the bytes of report.json; None if they are no valid one."""
        try:
            tree: dict[str, Any] = json.loads(data)
            failures = tuple(Failure(**entry) for entry in tree.pop("failures"))
            report = cls(failures=failures, notes=tuple(tree.pop("notes", ())), **tree)
            report._check()
            return report
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def _check(self) -> None:
        """Raises TypeError for a value of a wrong type, as the file may come from anywhere."""
        texts = [self.source, self.limit, self.root or "", self.files, *self.notes, *self.failed, *self.decoders]
        texts += [*self.kept]
        texts += [text for failure in self.failures for text in dataclasses.astuple(failure)]
        counts = [self.packed, self.shards, self.resumed_shards, self.threads]
        counts += [*self.failed.values(), *self.decoders.values(), *self.kept.values()]
        counts += [self.source_bytes, self.row_bytes, self.psnr_measured]
        speeds = [self.seconds, self.images_per_second, self.source_mb_per_second, self.written_mb_per_second]
        speeds += [self.psnr_mean or 0.0, self.psnr_smallest or 0.0]
        for values, kinds in ((texts, (str,)), (counts, (int,)), (speeds, (int, float))):
            for value in values:
                if not isinstance(value, kinds):
                    raise TypeError(f"expected {kinds[-1].__name__}, found {value!r}")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"packed {self.packed:,} of {self.total:,} images", show_header=False, title_justify="left")
        for name, value in self.lines():
            table.add_row(name, Text(value))
        yield table
        for failure in self.failures[:5]:
            yield Text(f"  {failure.source}: {failure.error}")
        if (more := self.total - self.packed - min(5, len(self.failures))) > 0:
            yield Text(f"  and {more:,} more: see store.samples")

    def lines(self) -> list[tuple[str, str]]:
        """(name, value) of each line that a report prints below its counts."""
        speeds = f"{self.source_mb_per_second:,.1f} MB/s read, {self.written_mb_per_second:,.1f} MB/s written"
        lines = [
            ("source", self.source),
            *(("note", note) for note in self.notes),
            ("failed", ", ".join(f"{n:,} {reason}" for reason, n in self.failed.items()) or "none"),
            *self._jpeg_lines(),
            ("decoded by", ", ".join(f"{name} {n:,}" for name, n in self.decoders.items()) or "nothing to decode"),
        ]
        if self.seconds:  # of a store whose shards other processes packed, nobody knows it
            lines += [
                ("time", f"{self.seconds:,.2f} s with {self.threads} threads"),
                ("speed", f"{self.images_per_second:,.0f} images/s, {speeds}"),
                ("limit", LIMITS.get(self.limit, self.limit)),
            ]
        if self.resumed_shards:
            lines.append(("resumed", f"{self.resumed_shards} of {self.shards} shards were finished before"))
        return lines

    def _jpeg_lines(self) -> list[tuple[str, str]]:
        if not self.kept:
            return []
        lines = [
            ("kept", ", ".join(f"{name} {n:,}" for name, n in self.kept.items())),
            ("bytes", f"{size(self.source_bytes)} of images in {size(self.row_bytes)} of rows"),
        ]
        if self.psnr_mean is not None and self.psnr_smallest is not None:
            measured = f"{self.psnr_measured:,} of the encoded images, measured"
            lines.append(("PSNR", f"{self.psnr_mean:.1f} dB, at least {self.psnr_smallest:.1f} dB, of {measured}"))
        return lines

    def __str__(self) -> str:
        return "\n".join([f"packed {self.packed:,} of {self.total:,} images", *(f"{k}: {v}" for k, v in self.lines())])
