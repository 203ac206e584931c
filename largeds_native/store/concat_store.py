"""Several stores one after another."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from largeds_native._internal.arrays import Array, FieldSpec
from largeds_native._internal.progress_bar import ProgressCallback, progress_of
from largeds_native.errors import ArgumentError, StoreError
from largeds_native.store.base import RowFile, Store, check_decode
from largeds_native.store.image_sequence import ImageSequence
from largeds_native.store.joined_classes import join_classes, renumbered
from largeds_native.store.metadata import Metadata, SizeRange
from largeds_native.store.packed import Shard, as_packed
from largeds_native.store.verify import Verification

if TYPE_CHECKING:
    import pyarrow as pa

    from largeds_native import _C

Classes = Literal["match", "offset"]


class ConcatStore(Store):
    """The rows of several stores, of raw and of JPEG rows, one store after another: see `largeds_native.concat`, and
    `largeds_native.mix`, which gives each a weight.

    stores: those that were joined; one of them may be joined itself. parts: all stores that hold rows.
    weights: of each of `stores`, by which a Loader draws; None where they are only joined.
    """

    def __init__(
        self, stores: Sequence[Store], classes: Classes = "match", weights: tuple[float, ...] | None = None
    ) -> None:
        self.stores, self.weights, self._how = tuple(stores), weights, classes
        for store in self.stores:
            _check_alike(self.stores[0], store)
        joined = join_classes(self.stores, classes)
        self._numbers = joined.numbers
        self.parts = tuple(part for store in self.stores for part in parts_of(store))
        name = self.stores[0].path.name + (f" and {len(self.stores) - 1} more" if len(self.stores) > 1 else "")
        super().__init__(self.stores[0].path.with_name(name), _joined(self.stores, joined.names))
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self.arriving = any(part.arriving for part in self.parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return (ConcatStore, (self.stores, self._how, self.weights))

    @cached_property
    def identity(self) -> str:
        how = "" if self._how == "match" else self._how
        return hashlib.sha256("".join([*(store.identity for store in self.stores), how]).encode()).hexdigest()[:16]

    def summary(self) -> list[str]:
        facts = [f"{len(self.stores)} stores", *super().summary()]
        return facts if self.weights is None else [*facts[:-1], f"weights {self.weights}", facts[-1]]

    # ---- rows --------------------------------------------------------------------------------------------------
    def row_in_store(self, row: int) -> tuple[Store, int]:
        """The part that holds a row, and its number there."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self.parts[number], row - int(self._starts[number])

    @property
    def shard_rows(self) -> list[int]:
        return [rows for part in self.parts for rows in part.shard_rows]

    @contextmanager
    def reading(self, rows: Any) -> Iterator[None]:
        rows = np.asarray(rows)
        with ExitStack() as stack:
            for part, start in zip(self.parts, self._starts.tolist(), strict=False):
                if part.arriving:
                    stack.enter_context(part.reading(rows[(rows >= start) & (rows < start + len(part))] - start))
            yield

    def files(self, name: str) -> list[RowFile]:
        return [file for part in self.parts for file in part.files(name)]

    def _map(self, name: str, part: int) -> Array:
        for store, numbers in zip(self.stores, self._numbers, strict=True):
            files = store.files(name)
            if part < len(files):
                values = store.part(name, part)
                if name != "label" or numbers is None:
                    return values
                return renumbered(values, numbers, files[part].path)
            part -= len(files)
        raise IndexError(part)

    def renumberings(self) -> list[tuple[int, Array | None]]:
        """(rows, numbers) of each part: its label l is `numbers[l]` here, or l without numbers."""
        found: list[tuple[int, Array | None]] = []
        for store, numbers in zip(self.stores, self._numbers, strict=True):
            inner = store.renumberings() if isinstance(store, ConcatStore) else [(len(store), None)]
            found += [(rows, _after(first, numbers)) for rows, first in inner]
        return found

    def _core_rows(self, name: str, row_bytes: int, rows_each: int) -> _C.Rows:
        from largeds_native import _C

        numbers = self.renumberings() if name == "label" else []
        if all(table is None for _, table in numbers):
            rows = super()._core_rows(name, row_bytes, rows_each)
        else:
            files = [(str(file.path), file.offset, file.rows) for file in self.files(name) if file.rows]
            signed = self.metadata.fields[name].dtype.kind == "i"
            tables = [(count, [] if table is None else table.tolist()) for count, table in numbers]
            rows = _C.LabelRows(files, row_bytes, signed, tables, self.arriving)
        for part, start in zip(self.parts, self._starts.tolist(), strict=False):
            part.keep_readable(rows, name, start)
        return rows

    @property
    def images(self) -> Any:
        """All images: an array-like of all rows if they are raw and of one shape, else a sequence."""
        if self.metadata.sizes is None:
            return super().images
        return ImageSequence(self.path, self.metadata, self._image, self.shape, self.dtype)

    def _image(self, row: int) -> Any:
        part, row = self.row_in_store(row)
        return part.images[row]

    @property
    def rows(self) -> _C.RowSource:
        if self._rows is None:
            from largeds_native import _C

            self._rows = _C.ConcatRows([part.rows for part in self.parts])
        return self._rows

    def read_spec(self, decode: str = "exact") -> _C.ReadSpec:
        from largeds_native import _C

        check_decode(decode)
        parts = [part.read_spec("exact" if part.metadata.sizes is None else decode) for part in self.parts]
        height, width = self._smallest
        dtype, planar = self.dtype.name, self.layout == "CHW"
        smallest = _C.ImageLayout(channels=self.channels, height=height, width=width, planar=planar, dtype=dtype)
        return _C.ReadSpec(smallest, parts=parts)

    @property
    def _smallest(self) -> tuple[int, int]:
        return self.metadata.image_size if self.metadata.sizes is None else self.metadata.sizes.min

    # ---- pictures -------------------------------------------------------------------------------------------------
    def field(self, name: str) -> Any:
        """A field's N values, read-only; pictures beside JPEG rows are decoded when they are indexed."""
        self._check_field(name)
        if name not in self.metadata.pictures or self.metadata.sizes is None:
            return super().field(name)
        spec = self.metadata.pictures[name]
        shape = None if self.metadata.varies else spec.of_size(self.image_size).shape
        return ImageSequence(self.path, self.metadata, partial(self._picture, name), shape, spec.dtype)

    def _picture(self, name: str, row: int) -> Any:
        part, row = self.row_in_store(row)
        return part.field(name)[row]

    def picture_rows(self, name: str) -> _C.RowSource:
        from largeds_native import _C

        return _C.ConcatRows([part.picture_rows(name) for part in self.parts])

    def picture_read_spec(self, name: str) -> _C.ReadSpec:
        from largeds_native import _C

        (height, width), spec = self._smallest, self.metadata.pictures[name]
        smallest = _C.ImageLayout(
            channels=spec.values.channels, height=height, width=width, planar=False, dtype=spec.dtype.name
        )
        return _C.ReadSpec(smallest, parts=[part.picture_read_spec(name) for part in self.parts])

    @property
    def sizes(self) -> Array:
        """Height and width of each row, (N, 2)."""
        return np.concatenate([np.asarray(part.sizes[:], np.int64) for part in self.parts])

    @cached_property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) per channel in [0, 1] units: of each store by its own `statistics`, weighted by its pixels."""
        pixels = [int(np.asarray(part.sizes[:], np.int64).prod(axis=1).sum()) for part in self.parts]
        known = [(part.statistics, n) for part, n in zip(self.parts, pixels, strict=True) if n]
        total = sum(n for _, n in known)
        if not total:
            raise StoreError(f"{self.path} has no statistics: it has no images")
        mean, std = [], []
        for c in range(self.channels):
            first = sum(m[c] * n for (m, _), n in known) / total
            second = sum((s[c] ** 2 + m[c] ** 2) * n for (m, s), n in known) / total
            mean.append(first)
            std.append(math.sqrt(max(second - first**2, 0.0)))
        return tuple(mean), tuple(std)

    # ---- what packed stores have ---------------------------------------------------------------------------------
    @property
    def shards(self) -> list[Shard]:
        """The shards of all parts; rows count in all of them together. StoreError if one was not packed."""
        return [
            Shard(shard.path, shard.rows, start + shard.start, shard.hash)
            for part, start in zip(self.parts, self._starts.tolist(), strict=False)
            for shard in as_packed(part).shards
        ]

    @cached_property
    def samples(self) -> pa.Table:
        """`PackedStore.samples` of all parts, with a column `store`, the path of the part; `row` counts in all parts
        together. StoreError if one was not packed."""
        return self.samples_of(range(len(self.shards)))

    def samples_of(self, shards: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """As `samples` for some of `shards`, with all columns or these, `row` and `store`."""
        import pyarrow as pa

        located = [
            (part, start, index)
            for part, start in zip(self.parts, self._starts.tolist(), strict=False)
            for index in range(len(as_packed(part).shards))
        ]
        if not located:
            raise StoreError(f"{self.path} has no shards")
        tables = []
        for part, start, index in (located[shard] for shard in shards):
            table = as_packed(part).samples_of([index], columns)
            rows = np.asarray(table["row"])
            at = table.schema.get_field_index("row")
            table = table.set_column(at, table.schema.field(at), pa.array(np.where(rows < 0, rows, rows + start)))
            tables.append(table.append_column("store", pa.array([str(part.path)] * len(table), pa.string())))
        return pa.concat_tables(tables, promote_options="default")  # only JPEG stores have some of the columns

    def verify(self, *, threads: int | None = None, progress: bool | ProgressCallback = True) -> Verification:
        """`PackedStore.verify` of each part; rows count in all of them together. StoreError if one was not packed."""
        for part in self.parts:
            as_packed(part)
        damaged: list[int] = []
        shards: list[str] = []
        with progress_of(progress, "verifying") as on_progress:
            for part, start in zip(self.parts, self._starts.tolist(), strict=False):
                of_part = partial(_shifted, on_progress, start, len(self))
                found = as_packed(part).verify(threads=threads, progress=of_part)
                damaged += [start + row for row in found.damaged]
                shards += [f"{part.path.name}/{name}" for name in found.damaged_shards]
        return Verification(len(self), tuple(damaged), tuple(shards))


def _shifted(on_progress: ProgressCallback, start: int, total: int, done: int, _: int) -> None:
    on_progress(start + done, total)


def parts_of(store: Store) -> tuple[Store, ...]:
    """The stores that were joined; of another store, itself."""
    return store.parts if isinstance(store, ConcatStore) else (store,)


def concat(stores: Sequence[Store], *, classes: Classes = "match") -> ConcatStore:
    """Several stores as one, one after another: those with raw rows, with JPEG rows, and mapped arrays.

    stores: with the same number of channels, dtype, layout, normalisation and fields, and one variant of each image. If
        images differ in size, a Loader needs an augment that gives them one.
    classes: "match": classes of the same name are one class, and the joined classes are those of the first store, then
        those that each further store adds; labels get their numbers. Classes without names are the same where their
        numbers are. "offset": the classes of each store follow those of the store before, as for data sets whose labels
        have nothing to do with each other; where two have the same name, their stores' names come before theirs, and a
        store without names of classes has as many as its largest label says. Negative labels stay as they are.

    `order="weighted"` of a Loader mixes the stores by `weights`, one a store, as `largeds_native.mix`; or the rows, by
    one a row.

    Raises ArgumentError for stores that do not fit together, and says what differs.
    """
    parts = _checked(stores)
    for store in parts:
        if isinstance(store, ConcatStore) and store.weights is not None:
            raise ArgumentError(
                f"stores: {store.path} is a mix of stores with weights of their own: pass its stores, all in one"
            )
    return ConcatStore(parts, classes)


def mix(stores: Sequence[Store], weights: Iterable[float], *, classes: Classes = "match") -> ConcatStore:
    """Several stores as one, of which a Loader with shuffle=True draws in proportion to `weights`:

        loader = lds.Loader(lds.mix([photos, drawings], weights=[0.7, 0.3]), 256, shuffle=True)

    stores, classes: as for `largeds_native.concat`; none may be empty.
    weights: a positive number for each store; only their proportions count.

    The draws are one endless sequence, in which each stretch, each batch for instance, has each store's share up to
    a sample or two. The rows of a store come in a random order, each once until the store is used up, and then in
    another order. An epoch is the next `len(store)` draws, the sum of all rows: so a small store with a large weight
    comes several times in it, augmented differently each time, and the rest of a large one comes in the next epoch. A
    draw is a function of (seed, epoch, position), so there is no state, and a run resumes exactly in any world size.

    Raises ArgumentError for weights that are not positive and finite, are not one a store, or differ by more than a
    million times; for an empty store; and as `concat`.
    """
    joined = concat(stores, classes=classes)
    return ConcatStore(joined.stores, classes, store_weights(weights, joined.stores))


def store_weights(weights: Any, stores: Sequence[Store]) -> tuple[float, ...]:
    """The weights by which stores are mixed, checked."""
    try:
        numbers = tuple(float(weight) for weight in weights)
    except (TypeError, ValueError):
        raise ArgumentError(f"weights: expected {len(stores)} numbers, one a store, found {weights!r:.100}") from None
    if len(numbers) != len(stores):
        raise ArgumentError(f"weights: expected {len(stores)} numbers, one a store, found {len(numbers)}")
    for store, number in zip(stores, numbers, strict=True):
        if not 0 < number < math.inf:
            raise ArgumentError(
                f"weights: expected a positive number for {store.path}, found {number}; leave out a store of which "
                "nothing shall be drawn"
            )
        if not len(store):
            raise ArgumentError(f"weights: {store.path} is empty, so nothing can be drawn from it: leave it out")
    if max(numbers) > MAX_RATIO * min(numbers):
        raise ArgumentError(
            f"weights: expected numbers of which none is {MAX_RATIO:,} times another, found {min(numbers)} and "
            f"{max(numbers)}"
        )
    return numbers


MAX_RATIO = 1_000_000  # of two weights


def _checked(stores: Any) -> list[Store]:
    given = stores if isinstance(stores, Iterable) and not isinstance(stores, Store) else [stores]
    parts = list(given)
    if not parts or not all(isinstance(store, Store) for store in parts):
        raise ArgumentError(f"stores: expected at least one Store, as largeds_native.open gives, found {stores!r:.100}")
    return parts


def _after(first: Array | None, then: Array | None) -> Array | None:
    """Two renumberings in one."""
    if first is None or then is None:
        return then if first is None else first
    return then[first]


def _joined(stores: Sequence[Store], classes: tuple[str, ...]) -> Metadata:
    first = stores[0].metadata
    described = [store.metadata for store in stores]
    sizes = [SizeRange(one.image_size, one.image_size) if one.sizes is None else one.sizes for one in described]
    low = (min(s.min[0] for s in sizes), min(s.min[1] for s in sizes))
    high = (max(s.max[0] for s in sizes), max(s.max[1] for s in sizes))
    one_array = low == high and all(store.metadata.codec == "raw" for store in stores)
    height, width = low if low == high else (0, 0)
    return Metadata(
        rows=sum(map(len, stores)),
        shape=(first.channels, height, width) if first.layout == "CHW" else (height, width, first.channels),
        dtype=first.dtype,
        layout=first.layout,
        fields=first.fields if one_array else _of_any_size(first),
        classes=classes,
        normalized=first.normalized,
        codec="raw" if one_array else "jpeg",
        sizes=None if one_array else SizeRange(low, high, sum(store.nbytes for store in stores)),
    )


def _of_any_size(metadata: Metadata) -> dict[str, FieldSpec]:
    """The fields, pictures without their size."""
    fields = metadata.fields.items()
    return {name: spec.of_size((0, 0)) if spec.is_picture else spec for name, spec in fields}


def _fields_beside(metadata: Metadata, other: Metadata) -> str:
    """In words, those that the other has not."""
    found = [f"{name} ({spec})" for name, spec in metadata.fields.items() if other.fields.get(name) != spec]
    return ", ".join(found) or "none"


def _check_alike(first: Store, other: Store) -> None:
    """Raises ArgumentError, which says what differs."""
    a, b = (replace(store.metadata, fields=_of_any_size(store.metadata)) for store in (first, other))
    for name in ("channels", "dtype", "layout", "normalized", "fields"):
        one, two = getattr(a, name), getattr(b, name)
        if one != two:
            if name == "fields":
                one, two = _fields_beside(a, b), _fields_beside(b, a)
            raise ArgumentError(
                f"stores: {name} of {first.path} and {other.path} differ: {one!s:.200} and {two!s:.200}; pack them "
                "with the same mode, dtype, layout and fields"
            )
    if b.variants != 1:
        raise ArgumentError(f"stores: {other.path} has {b.variants} variants of each image: expected one")
