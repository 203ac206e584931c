"""Images in tar files, by WebDataset's convention. They are read from the tar file; nothing is unpacked."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from largeds_native._internal.arrays import MASK, FieldSpec
from largeds_native._internal.object_file import ObjectFile, state_of
from largeds_native._internal.urls import hiding_credentials, is_url, without_credentials
from largeds_native.errors import ArgumentError, PackError
from largeds_native.sources.base import LABEL, FailedItem, IndexedSource, Indices, Item, Source, SourceBatch
from largeds_native.sources.classes import with_classes
from largeds_native.sources.patterns import expand
from largeds_native.sources.pictures import beside, spec_of, spread

IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff")
MASKS: Mapping[str, str] = {"mask": MASK, "seg": MASK}  # endings before that of the format
MAX_LABEL_BYTES = 1 << 20
AT_ONCE = 16  # archives in object storage that are read for their lists of members


def tar(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    classes: Any = None,
    pictures: Sequence[str] = (),
    ignore: int | None = None,
) -> Source:
    """A source from uncompressed tar files, URLs of them, or patterns of either: "train-*.tar" for all that are there,
    "train-{0000..0146}.tar" as WebDataset writes it.

    WebDataset's rule: members of one folder whose names agree up to their first dot are one sample, and what comes
    after that dot says what they are. `.jpg`, `.png`, `.webp` (or another of Pillow's formats) is its image, `.cls` its
    label (a whole number as text), or "label" or "cls" in its `.json` where there is no `.cls`. `.mask.png` and
    `.seg.png` (or another format without loss) are its masks, the fields "mask" and "seg"; `ignore` is the number of
    their pixels outside of the image, which a random crop with padding shows. `pictures` names other ones: ("depth",)
    takes `.depth.png` as the field "depth". Other members, as `.txt`, are left out; the report lists their endings.
    Names that begin with a dot (as macOS's `._x`) are passed over. Samples come in the order of the files. Either all
    have a label or none. `classes`, names or a store, gives the labels' numbers their names.

    Links are left out and counted. Raises ArgumentError naming the file and the member or byte that is wrong: cut off,
    damaged, compressed, a label that is no whole number, two members for one thing. Names of members are never used as
    paths.
    """
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not files:
        raise ArgumentError("expected tar files, found an empty list")
    named = [name if is_url(name) else os.path.abspath(name) for path in files for name in expand(path)]
    return with_classes(TarSource(named, ignore, pictures), classes)


def _roles(pictures: Sequence[str]) -> dict[str, str]:
    """The roles of members that are pictures, by the ending before that of their format."""
    names = [pictures] if isinstance(pictures, str) else pictures
    found = beside(dict(MASKS), dict.fromkeys(names))
    return {name: one.role for name, one in found.items()}


@dataclass
class _Sample:
    """The members of one sample: the part of the file that is its image, its label, and other images' names."""

    image: tuple[int, int] | None = None
    image_name: str = ""
    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)
    label: int | None = None
    json: tarfile.TarInfo | None = None  # tells the label where there is no .cls
    other_images: list[str] = field(default_factory=list)
    endings: set[str] = field(default_factory=set)


class TarSource(IndexedSource):
    def __init__(self, files: list[str], ignore: int | None = None, pictures: Sequence[str] = ()) -> None:
        self._files = files
        roles = _roles(pictures)
        self.is_remote = any(map(is_url, files))
        first = without_credentials(files[0])
        self.description = f"tar {first}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self._file_index: list[int] = []
        self._extents: list[tuple[int, int]] = []
        self._keys: list[str] = []
        self._left_out: Counter[str] = Counter()
        labels: list[int | None] = []
        self._picture_extents: list[dict[str, tuple[int, int]]] = []
        for index, (path, samples) in enumerate(zip(files, self._indexed(files, roles), strict=True)):
            for key, sample in samples.items():
                if sample.image is None:
                    _refuse_other_images(without_credentials(path), key, sample)
                    self._left_out["samples without an image"] += 1
                    continue
                self._keys.append(key)
                self._file_index.append(index)
                self._extents.append(sample.image)
                self._picture_extents.append(sample.pictures)
                labels.append(sample.label)
        if not labels:
            raise PackError(f"{self.description} has no image")
        missing = [key for key, label in zip(self._keys, labels, strict=True) if label is None]
        if missing and len(missing) != len(labels):
            raise ArgumentError(
                f"{self.description}: sample {missing[0]!r} has no label (.cls or .json), while others have one"
            )
        self._labels = None if missing else np.asarray(labels, np.int64)
        chosen = spread(len(labels))
        found = sorted({name for extents in self._picture_extents for name in extents})
        self._pictures = {name: spec_of(self._picture_items(name, chosen), roles[name], ignore) for name in found}
        if self._left_out:
            self.notes = ("left out: " + ", ".join(f"{n:,} {what}" for what, n in self._left_out.most_common(20)),)

    def _indexed(self, files: list[str], roles: Mapping[str, str]) -> Iterator[dict[str, _Sample]]:
        """The samples of each file; of those in object storage, several at once."""
        if not self.is_remote:
            yield from (_samples(path, self._left_out, roles) for path in files)
            return

        def indexed(path: str) -> tuple[dict[str, _Sample], Counter[str]]:
            left_out: Counter[str] = Counter()
            with hiding_credentials(path):
                return _samples(path, left_out, roles), left_out

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for samples, left_out in pool.map(indexed, files):
                self._left_out.update(left_out)
                yield samples

    @property
    def fields(self) -> dict[str, FieldSpec]:
        return {} if self._labels is None else {"label": LABEL}

    @property
    def pictures(self) -> dict[str, FieldSpec]:
        return self._pictures

    @property
    def count(self) -> int:
        return len(self._keys)

    def take(self, indices: Indices) -> SourceBatch:
        chosen = indices.tolist()
        items: list[Any] = [(self._files[self._file_index[i]], *self._extents[i]) for i in chosen]
        fields = {} if self._labels is None else {"label": self._labels[indices]}
        found = {name: self._picture_items(name, indices) for name in self._pictures}
        return SourceBatch(items, [self._name(i) for i in chosen], fields, found)

    def _picture_items(self, name: str, indices: Indices) -> list[Item]:
        return [self._picture_item(name, i) for i in indices.tolist()]

    def _picture_item(self, name: str, i: int) -> Item:
        extent = self._picture_extents[i].get(name)
        if extent is None:
            return FailedItem("missing", f"{self._name(i)}: expected a member .{name}.png, found none")
        return (self._files[self._file_index[i]], *extent)

    def _name(self, i: int) -> str:
        return f"{os.path.basename(without_credentials(self._files[self._file_index[i]]))}:{self._keys[i]}"

    def paths(self, indices: Indices) -> list[tuple[str, str]]:
        found = [(self._name(i), self._files[self._file_index[i]]) for i in indices.tolist()]
        return [(name, path) for name, path in found if not is_url(path)] if self.is_remote else found

    def files_state(self) -> str:
        if not self.is_remote:
            return super().files_state()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            states = list(pool.map(state_of, filter(is_url, self._files)))
        return hashlib.sha256(repr((super().files_state(), states)).encode()).hexdigest()

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for i, extent in enumerate(self._extents):
            others = sorted(self._picture_extents[i].items())
            told = f"{self._name(i)!r} {extent}" + (f" {others}" if others else "")
            digest.update(f"{told}\n".encode("utf-8", "surrogateescape"))
        if self._labels is not None:
            digest.update(self._labels.tobytes())
        return digest.hexdigest()


def _open(path: str) -> BinaryIO:
    return io.BufferedReader(ObjectFile(path)) if is_url(path) else open(path, "rb")


def _size(path: str) -> int:
    if is_url(path):
        return state_of(path).size
    try:
        return Path(path).stat().st_size
    except OSError as error:
        raise ArgumentError(f"{path}: {error.strerror}: expected a tar file") from None


def _samples(path: str, left_out: Counter[str], roles: Mapping[str, str]) -> dict[str, _Sample]:
    """The members of a tar file by sample; `left_out` counts those that are neither image, label nor picture."""
    samples: dict[str, _Sample] = {}
    size = _size(path)
    try:
        with _open(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                if not member.isfile() or not stem:
                    _count_special(member, left_out)
                    continue
                if member.offset_data + member.size > size:
                    raise ArgumentError(f"{path} is cut off in member {member.name!r}")
                sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, _Sample())
                extension = extension.lower()
                if extension in sample.endings:
                    raise ArgumentError(
                        f"{path}: two members are named {member.name!r}: nothing tells which one counts"
                    )
                sample.endings.add(extension)
                if not _take(sample, archive, member, path, extension, roles):
                    left_out[f".{extension}" if extension else "without an ending"] += 1
            _check_end(path, archive.offset)
            for sample in samples.values():
                if sample.json is not None and sample.label is None:
                    sample.label = _label(archive, sample.json, path, "json")
    except tarfile.TarError as error:
        raise ArgumentError(
            f"{path} is not an uncompressed tar file, or is cut off: {error}{_how_compressed(path)}"
        ) from None
    return samples


def _count_special(member: tarfile.TarInfo, left_out: Counter[str]) -> None:
    if member.islnk() or member.issym():
        left_out["links"] += 1
    elif not member.isfile() and not member.isdir():
        left_out["devices or pipes"] += 1


def _check_end(path: str, offset: int) -> None:
    """Raises ArgumentError unless an archive's end, nothing but zeros, is at `offset`: tarfile takes a header that it
    can't read for the end."""
    with _open(path) as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            raise ArgumentError(
                f"{path} is cut off: at byte {offset:,}, expected another member or the end of the archive, a block of "
                "zeros, found the end of the file: copy or make the archive again"
            )
        if block.strip(b"\0"):
            raise ArgumentError(
                f"{path} is damaged: at byte {offset:,}, expected the header of a member or a block of zeros, found "
                "neither: copy or make the archive again"
            )
        while block := file.read(1 << 20):
            if block.strip(b"\0"):
                at = file.tell() - len(block.lstrip(b"\0"))
                raise ArgumentError(
                    f"{path}: expected nothing after the end of the archive at byte {offset:,}, found data at byte "
                    f"{at:,}: the archive is damaged, or two archives in one file; join archives with tar "
                    "--concatenate, or pack a list of them"
                )


def _take(
    sample: _Sample,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: str,
    extension: str,
    roles: Mapping[str, str],
) -> bool:
    """False for a member that is left out."""
    if extension in IMAGES:
        if sample.image is not None:
            raise ArgumentError(
                f"{path}: members {sample.image_name!r} and {member.name!r} are two images of one sample, as members "
                "belong together whose names agree up to the first dot: nothing tells which one to pack"
            )
        sample.image, sample.image_name = (member.offset_data, member.size), member.name
        return True
    if extension == "cls":
        sample.label = _label(archive, member, path, extension)
        return True
    if extension == "json":
        sample.json = member
        return True
    kind, _, ending = extension.rpartition(".")
    if kind in roles and ending in IMAGES:
        if kind in sample.pictures:
            raise ArgumentError(f"{path}: member {member.name!r} is a second .{kind} of one sample")
        sample.pictures[kind] = (member.offset_data, member.size)
        return True
    if ending in IMAGES:
        sample.other_images.append(member.name)
    return False


def _refuse_other_images(path: str, key: str, sample: _Sample) -> None:
    """A sample whose only images have a dot in their ending was most likely named with dots."""
    if sample.other_images:
        names = " and ".join(repr(name) for name in sample.other_images[:2])
        raise ArgumentError(
            f"{path}: sample {key!r} has {names} but no image with one ending: by WebDataset's rule a sample's name "
            "ends at its first dot; give the members names without dots, as v1_0_a.png"
        )


def _how_compressed(path: str) -> str:
    with _open(path) as file:
        magic = file.read(6)
    for begin, tool in (
        (b"\x1f\x8b", "gunzip"),
        (b"BZh", "bunzip2"),
        (b"\xfd7zXZ", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
    ):
        if magic.startswith(begin):
            return f"; it is compressed, and images are read where they lie: run {tool} on it and pack the .tar"
    return ""


def _label(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, extension: str) -> int | None:
    """The label in a .cls or .json member; None for a .json without one."""
    where = f"{path}: member {member.name!r}"
    if member.size > MAX_LABEL_BYTES:
        raise ArgumentError(f"{where}: expected a label, found {member.size:,} bytes")
    stream = archive.extractfile(member)
    data = b"" if stream is None else stream.read()
    if extension == "json":
        try:
            tree = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"{where} is not JSON: {error}") from None
        value = (
            tree.get("label", tree.get("cls")) if isinstance(tree, dict) else None if isinstance(tree, list) else tree
        )
        if value is None:
            return None
        if type(value) is int:
            return _checked(value, where)
        raise ArgumentError(f"{where}: expected a label that is a whole number, found {str(value)[:80]!r}")
    if not re.fullmatch(rb"\s*[+-]?[0-9]{1,100}\s*", data):
        raise ArgumentError(f"{where}: expected a whole number, found {data[:80]!r}")
    return _checked(int(data), where)


def _checked(label: int, where: str) -> int:
    if not -(1 << 63) <= label < 1 << 63:
        raise ArgumentError(f"{where}: expected a label of at most 64 bits, found {str(label)[:80]}")
    return label
