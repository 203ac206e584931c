"""Exports a store as one HDF5 file.

HDF5 creates the file, but its library does not process the images where that can be avoided: the kernel copies a
contiguous dataset between the files, and chunks are written directly with H5Dwrite_chunk.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec
from largeds_native._internal.machine import usable_threads
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native.errors import ArgumentError
from largeds_native.interchange.copying import DecodedReader, PictureReader, RowReader, copy_range
from largeds_native.interchange.hdf5_file import CLASSES, IMAGES, LABELS, ORIENTATION
from largeds_native.interchange.new_file import Reserve, new_file, new_hdf5_file, reserve, storage_errors
from largeds_native.store import JpegStore
from largeds_native.store.base import check_local
from largeds_native.store.concat_store import ConcatStore
from largeds_native.transform import ImageTransform

if TYPE_CHECKING:
    from largeds_native.store import Store


BLOCK_BYTES = 16 << 20
ATTRIBUTE_BYTES = 60_000  # HDF5's compact attributes have at most 64 KiB
PAGE = 4096
# endings of other formats
OTHER_FORMATS = {".tar", ".gz", ".zip", ".npy", ".npz", ".parquet", ".csv", ".json", ".zarr", ".lds", ".beton"}


def export_hdf5(
    store: Store,
    path: str | os.PathLike[str],
    *,
    layout: str = "contiguous",
    chunk_images: int = 1,
    compression: Any = None,
    indices: Any = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    resize: Any = None,
    crop: Any = None,
    encoded: bool = False,
    progress: bool | ProgressCallback | None = True,
) -> Path:
    """Writes the HDF5 file `path`: the images to its dataset `data`, the labels to `labels`, and further fields to
    datasets of their names.

    layout: "contiguous" (one block, which can be memory-mapped) or "chunked", with `chunk_images` images per chunk.
    compression: None, "gzip", ("gzip", level), "lzf", or a filter of hdf5plugin such as `hdf5plugin.Zstd()`; needs
        layout="chunked".
    indices: the rows to write, in this order; default all.
    normalize: (mean, std) in [0, 1] units: writes (x / 255 - mean) / std as float32 instead of the stored uint8.
    resize, crop: the size to which images are resized, and of a centre crop of them, as in `pack`: if only one is
        given, the other follows. A JPEG store whose images have many sizes needs them, or `encoded`.
    encoded: writes the JPEG files of a JPEG store as they are: each value of `data` is one file, as uint8 of variable
        length, and its attribute `encoding` is "jpeg". Where rows have an EXIF orientation, `orientation` has them.
    progress: True shows a bar if stderr is a terminal; or a function called with (rows done, total rows).

    Masks become datasets (N, H, W), and other pictures (N, C, H, W), resized and cropped as the images are, or PNG
    files with `encoded`; their attributes are role, "mask" or "picture", and ignore. `data` has the attributes layout,
    and mean and std if normalised; the file has those of the classes, the options and libraries of the pack, and the
    store's identity. The file gets its name only when it is complete and synced. Memory use is some tens of MB.

    Raises ArgumentError for an invalid option, an existing output, or a name of another format (x.tar), StorageError
    if the disk is full.
    """
    if Path(path).suffix.lower() in OTHER_FORMATS:
        raise ArgumentError(f"{path}: this writes HDF5, and the name says another format: call it {Path(path).stem}.h5")
    check_local(store, "an export")
    rows = _indices(indices, len(store))
    if encoded:
        if (layout, chunk_images, compression, normalize, resize, crop) != ("contiguous", 1, None, None, None, None):
            raise ArgumentError(
                "encoded: expected no option of decoded images (layout, compression, normalize, resize)"
            )
        return _export_encoded(store, path, rows, progress)
    chunk, filters = _layout(layout, chunk_images, compression)
    lookup = None if normalize is None else _lookup(store, *normalize)
    reader = _reader(store, resize, crop)
    with progress_of(progress, "export") as on_progress, new_file(path) as temporary:
        with (
            storage_errors(path),
            new_hdf5_file(temporary, alignment_threshold=1 << 16, alignment_interval=PAGE) as (file, reserve_more),
        ):
            images = _create(file, reader.shape, store.dtype, len(rows), chunk, filters, lookup)
            _describe(file, images, store, normalize, reserve_more)
            _write_fields(file, store, rows, reserve_more)
            _write_pictures(file, store, rows, reserve_more, resize, crop)
            if chunk:
                blocks = _blocks(reader, rows, images.chunks[0], lookup, on_progress)
                _write_chunks(images, _with_space(temporary, images, blocks, reserve_more), filters)
            offset = images.id.get_offset() if not chunk else None
        if offset is not None:
            with storage_errors(path):
                _write_contiguous(temporary, offset, reader, rows, lookup, on_progress)
    return Path(path)


def _reader(store: Store, resize: Any, crop: Any) -> RowReader | DecodedReader:
    jpeg = store.metadata.codec == "jpeg"
    sizes = {name: size for name, size in (("resize", resize), ("crop", crop)) if size is not None}
    if not sizes:
        if store.metadata.varies:
            raise ArgumentError(
                f"resize: the images of {store.path} have many sizes ({store.metadata.pixel_facts()[0]}): pass "
                "resize=256, crop=224, or encoded=True to write the JPEG files as they are"
            )
        return DecodedReader(store, None, None) if jpeg else RowReader(store)
    if store.variants > 1:
        raise ArgumentError(f"resize, crop: {store.path} has {store.variants} variants of each image, already cropped")
    transform = ImageTransform(**sizes)
    return DecodedReader(store, transform.resize, transform.crop)


def _export_encoded(
    store: Store, path: str | os.PathLike[str], rows: Array, progress: bool | ProgressCallback | None
) -> Path:
    """Writes the JPEG files as values of variable length."""
    if isinstance(store, ConcatStore):
        raise ArgumentError("encoded: expected one store, found several that lds.concat joined: export each alone")
    if not isinstance(store, JpegStore):
        raise ArgumentError(f"encoded: the rows of {store.path} are pixels, not JPEG files")
    with (
        progress_of(progress, "export") as on_progress,
        new_file(path) as temporary,
        storage_errors(path),
        new_hdf5_file(temporary) as (file, reserve_more),
    ):
        images = file.create_dataset(IMAGES, (len(rows),), h5py.vlen_dtype(np.uint8), track_times=False)
        images.attrs["encoding"] = "jpeg"
        _describe(file, images, store, None, reserve_more)
        turned = store.orientations[rows]
        if (turned != 1).any():
            _write_field(file, ORIENTATION, turned, np.arange(len(rows)), reserve_more)
        _write_fields(file, store, rows, reserve_more)
        for name, spec in store.metadata.pictures.items():
            _describe_picture(_write_files(file, store, name, rows, reserve_more), spec)
        for done, row in enumerate(rows.tolist()):
            data = np.frombuffer(store.encoded(row), np.uint8)
            reserve_more(len(data) + 2 * PAGE)  # HDF5 puts large values on pages of their own
            images[done] = data
            on_progress(done + 1, len(rows))
    return Path(path)


def _indices(indices: Any, n: int) -> Array:
    if indices is None:
        return np.arange(n)
    rows = np.asarray(indices)
    if rows.ndim != 1 or not rows.size or rows.dtype.kind not in "iu":
        raise ArgumentError(f"indices: expected a list of row numbers, found {rows.dtype} of shape {rows.shape}")
    rows = rows.astype(np.int64)
    outside = rows[(rows < 0) | (rows >= n)]
    if outside.size:
        raise ArgumentError(f"indices: expected row numbers from 0 to {n - 1}, found {outside[0]}")
    return rows


def _layout(layout: str, chunk_images: int, compression: Any) -> tuple[int, dict[str, Any]]:
    """Images per chunk (0: contiguous), and the keyword arguments of h5py for the filters."""
    if layout not in ("contiguous", "chunked"):
        raise ArgumentError(f"layout: expected 'contiguous' or 'chunked', found {layout!r}")
    if layout == "contiguous":
        if compression is not None:
            raise ArgumentError("compression needs layout='chunked'")
        return 0, {}
    if isinstance(chunk_images, bool) or not isinstance(chunk_images, int) or chunk_images < 1:
        raise ArgumentError(f"chunk_images: expected a number of images from 1, found {chunk_images!r}")
    if isinstance(compression, (list, tuple)) and len(compression) == 2:
        compression, options = compression
        return chunk_images, {"compression": compression, "compression_opts": options}
    if compression is not None and not isinstance(compression, (str, int)):
        return chunk_images, dict(compression)  # a filter of hdf5plugin is a mapping of keyword arguments for h5py
    return chunk_images, {} if compression is None else {"compression": compression}


def _lookup(store: Store, mean: Sequence[float], std: Sequence[float]) -> Array:
    """Table (C, 256) float32 of the normalised values of each channel, rounded once."""
    channels = store.channels
    m, s = np.asarray(mean, np.float64).reshape(-1, 1), np.asarray(std, np.float64).reshape(-1, 1)
    if store.dtype != np.uint8:
        raise ArgumentError(f"normalize: expected a store of uint8, found {store.dtype}")
    if m.size != channels or s.size != channels or not (s > 0).all() or not np.isfinite(m).all():
        raise ArgumentError(
            f"normalize: expected {channels} means and {channels} positive stds, found {mean!r}, {std!r}"
        )
    return ((np.arange(256) / 255 - m) / s).astype(np.float32)


def _create(
    file: h5py.File,
    image: tuple[int, ...],
    stored: np.dtype[Any],
    rows: int,
    chunk: int,
    filters: dict[str, Any],
    lookup: Array | None,
) -> h5py.Dataset:
    """The dataset of `rows` images of shape `image`."""
    shape = (rows, *image)
    dtype = stored if lookup is None else np.dtype("<f4")
    if chunk:
        chunks = (min(chunk, rows), *shape[1:])
        try:
            return file.create_dataset(IMAGES, shape, dtype, chunks=chunks, track_times=False, **filters)
        except (ValueError, TypeError, OSError) as error:
            raise ArgumentError(f"compression: expected a filter that is installed, found {filters}: {error}") from None
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.CONTIGUOUS)
    plist.set_alloc_time(
        h5py.h5d.ALLOC_TIME_EARLY
    )  # so that the offset is known immediately, and nothing is written twice
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plist.set_obj_track_times(False)
    kind = h5py.h5t.py_create(dtype, logical=True)
    h5py.h5d.create(file.id, IMAGES.encode(), kind, h5py.h5s.create_simple(shape), plist)
    return file[IMAGES]


def _describe(file: h5py.File, images: h5py.Dataset, store: Store, normalize: Any, reserve_more: Reserve) -> None:
    images.attrs["layout"] = store.layout
    mean, std = normalize or (store.mean, store.std)
    if mean is not None:
        images.attrs["mean"], images.attrs["std"] = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    file.attrs["format"] = "largeds export"
    file.attrs["store"] = store.identity
    made_by = {"options": store.metadata.options, "libraries": store.metadata.libraries}
    texts = {name: json.dumps(dict(values)) for name, values in made_by.items()}
    reserve_more(sum(map(len, texts.values())) + sum(64 + 4 * len(name) for name in store.classes))
    for name, text in texts.items():
        if len(text) < ATTRIBUTE_BYTES:
            file.attrs[name] = text
    text_type = h5py.string_dtype()
    if store.classes and 20 * len(store.classes) < ATTRIBUTE_BYTES:
        file.attrs.create("classes", store.classes, dtype=text_type)
    elif store.classes:
        file.create_dataset(CLASSES, data=store.classes, dtype=text_type, track_times=False)


def _write_fields(file: h5py.File, store: Store, rows: Array, reserve_more: Reserve) -> None:
    """All but the pictures."""
    for name in store.fields:
        if name not in store.metadata.pictures:
            _write_field(file, LABELS if name == "label" else name, store[name], rows, reserve_more)


def _write_pictures(file: h5py.File, store: Store, rows: Array, reserve_more: Reserve, resize: Any, crop: Any) -> None:
    """With the geometry of the images."""
    for name, spec in store.metadata.pictures.items():
        values = PictureReader(store, name, resize, crop)
        _describe_picture(_write_field(file, name, values, rows, reserve_more), spec)


def _write_files(file: h5py.File, store: JpegStore, name: str, rows: Array, reserve_more: Reserve) -> h5py.Dataset:
    """The PNG files of a picture as values of variable length."""
    _check_free(file, name)
    pictures = file.create_dataset(name, (len(rows),), h5py.vlen_dtype(np.uint8), track_times=False)
    pictures.attrs["encoding"] = "png"
    for done, row in enumerate(rows.tolist()):
        data = np.frombuffer(store.encoded(row, name), np.uint8)
        reserve_more(len(data) + 2 * PAGE)
        pictures[done] = data
    return pictures


def _describe_picture(pictures: h5py.Dataset, spec: FieldSpec) -> None:
    pictures.attrs["role"] = spec.role
    if spec.ignore is not None:
        pictures.attrs["ignore"] = spec.ignore


def _check_free(file: h5py.File, name: str) -> None:
    if name in (IMAGES, CLASSES) or name in file:
        raise ArgumentError(f"the store's field {name!r} can't be exported: the file has another dataset of this name")


def _write_field(file: h5py.File, name: str, values: Any, rows: Array, reserve_more: Reserve) -> h5py.Dataset:
    _check_free(file, name)
    dtype = values.dtype
    kind: Any = dtype
    if dtype.kind == "U":  # HDF5 has no UTF-32: a code point is at most 4 bytes of UTF-8
        kind = h5py.string_dtype("utf-8", 4 * (dtype.itemsize // 4))
    reserve_more(len(rows) * dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64)) + PAGE)
    out = file.create_dataset(name, (len(rows), *values.shape[1:]), kind, track_times=False)
    if dtype.kind == "U":
        out.attrs["numpy_dtype"] = dtype.str
    step = max(1, BLOCK_BYTES // max(1, dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))))
    for low in range(0, len(rows), step):
        block = np.asarray(values[rows[low : low + step]])
        out[low : low + step] = block.astype(object) if dtype.kind == "U" else block
    return out


def _blocks(
    reader: RowReader | DecodedReader, rows: Array, multiple: int, lookup: Array | None, on_progress: ProgressCallback
) -> Iterator[tuple[int, Array]]:
    """Yields (first row, images) in blocks of about 16 MB; all but the last have a multiple of `multiple` rows."""
    written = reader.row_bytes * (1 if lookup is None else 4)
    step = max(1, BLOCK_BYTES // written // multiple) * multiple
    memory = reader.empty(min(step, len(rows)))
    for low in range(0, len(rows), step):
        block = reader.read(rows[low : low + step], memory[: len(rows) - low])
        yield low, block if lookup is None else normalised(block, lookup, reader.layout)
        on_progress(min(low + step, len(rows)), len(rows))


def normalised(images: Array, lookup: Array, layout: str) -> Array:
    """Converts uint8 (N, ..., C, H, W) or (N, ..., H, W, C) to float32 by a table (C, 256)."""
    out = np.empty(images.shape, np.float32)
    axis = images.ndim - (3 if layout == "CHW" else 1)
    for c in range(len(lookup)):
        where = (slice(None),) * axis + (c,)
        out[where] = lookup[c][images[where]]
    return out


def _write_contiguous(
    path: Path,
    offset: int,
    reader: RowReader | DecodedReader,
    rows: Array,
    lookup: Array | None,
    on_progress: ProgressCallback,
) -> None:
    from largeds_native import _C

    size = len(rows) * reader.row_bytes * (1 if lookup is None else 4)
    reserve(path, offset + size)
    with open(path, "r+b", buffering=0) as out:
        if isinstance(reader, RowReader) and lookup is None and len(rows) and (np.diff(rows) == 1).all():
            done = 0
            for source, start, length in reader.ranges(int(rows[0]), len(rows)):
                for low in range(0, length, BLOCK_BYTES):
                    part = min(BLOCK_BYTES, length - low)
                    copy_range(source, start + low, out.fileno(), offset + done, part)
                    _C.begin_write_back(out.fileno(), offset + done, part)  # the disk writes while the rest is copied
                    done += part
                    on_progress(done // reader.row_bytes, len(rows))
            return
        for low, block in _blocks(reader, rows, 1, lookup, on_progress):
            begin = out.seek(offset + low * reader.row_bytes * (1 if lookup is None else 4))
            view = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
            while view:
                view = view[out.write(view) :]
            _C.begin_write_back(out.fileno(), begin, block.nbytes)


def _with_space(
    path: Path, images: h5py.Dataset, blocks: Iterator[tuple[int, Array]], reserve_more: Reserve
) -> Iterator[tuple[int, Array]]:
    """Yields the blocks, each after allocating disk space for its chunks; earlier blocks are written back meanwhile."""
    from largeds_native import _C

    chunk_rows, size = images.chunks[0], images.dtype.itemsize * int(np.prod(images.chunks, dtype=np.int64))
    done = 0
    with path.open("rb") as file:
        for low, block in blocks:
            reserve_more(
                -(-len(block) // chunk_rows) * (size + size // 100 + 2 * PAGE)
            )  # for alignment, the index, and incompressible data
            yield low, block
            end = images.file.id.get_filesize()
            _C.begin_write_back(file.fileno(), done, end - done)
            done = end


def _write_chunks(images: h5py.Dataset, blocks: Iterator[tuple[int, Array]], filters: dict[str, Any]) -> None:
    """Raw and gzip chunks are created here, several in parallel; HDF5 runs other filters."""
    chunk = images.chunks[0]
    name = filters.get("compression")
    if name in (None, "gzip") and set(filters) <= {"compression", "compression_opts"}:
        level = filters.get("compression_opts", 4)

        def encode(part: Array) -> Any:
            if len(part) < chunk:  # all chunks have the same size in the file: the last one is filled up
                part = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), part.dtype)])
            raw = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
            return raw if name is None else zlib.compress(raw, level)

        origin = (0,) * (images.ndim - 1)
        with ThreadPoolExecutor(usable_threads()) as pool:
            for low, block in blocks:
                parts = [block[i : i + chunk] for i in range(0, len(block), chunk)]
                chunks = map(encode, parts) if name is None else pool.map(encode, parts)
                for i, data in enumerate(chunks):
                    images.id.write_direct_chunk((low + i * chunk, *origin), data)
        return
    for low, block in blocks:
        images[low : low + len(block)] = block
        images.flush()  # cached chunks have no offset in the file yet, but their space is allocated now
