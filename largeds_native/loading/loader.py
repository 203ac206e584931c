"""The loader: C++ threads fill the batches of a store ahead."""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from largeds_native._internal.devices import named_device
from largeds_native._internal.machine import MAX_THREADS
from largeds_native.errors import ArgumentError
from largeds_native.loading.batch_structure import BatchStructure
from largeds_native.loading.choose_order import OrderOptions, choose_plan
from largeds_native.loading.color_iterator import ColorIterator
from largeds_native.loading.coloring import Colors, check_shapes, coloring_of
from largeds_native.loading.cuda import DeviceIterator
from largeds_native.loading.cursor import Cursor
from largeds_native.loading.cut import Cut
from largeds_native.loading.dataloader_arguments import THREADS, explains_dataloader_arguments
from largeds_native.loading.fetching import shards_to_fetch
from largeds_native.loading.fields import check_fields, check_pictures, core_field, field_names
from largeds_native.loading.iterator import Batch, BatchIterator, BatchSource, EpochSpec, HostIterator
from largeds_native.loading.names import keys_of
from largeds_native.loading.normalise import DeviceFormat, Normalise
from largeds_native.loading.order import Sequential, check_seed
from largeds_native.loading.partition import Partition
from largeds_native.loading.pinned_rows import PinnedRows, RowImages, check_pin_rows, without_images
from largeds_native.loading.plan import OrderPlan, SamplerPlan
from largeds_native.loading.state import MAX_EPOCH, Identity, cursor_of, state_of
from largeds_native.loading.views import Views, ViewSchedule
from largeds_native.store import Store
from largeds_native.store.gather import BatchFormat, default_threads, torch_dtype
from largeds_native.transform import Augment
from largeds_native.transform.image_transform import flag

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

VARIANTS = ("draw", "cycle")
MAX_PREFETCH = 1 << 16
ON_DAMAGE = ("raise", "skip")


class Loader:
    """Iterates over batches of a store: tuples (images, *fields), images (n, C, H, W), each field (n, ...); or, with
    `names`, dicts of these.

    Batches:

    store: from `largeds_native.open` or `pack`.
    batch_size: samples per batch and rank; None with a batch sampler.
    drop_last: leave out the last batch of an epoch if it is not full.
    fields: the fields whose values come with the images, in this order; None is ("label",) if the store has it, else no
        field. Without fields, a batch is the tuple (images,). A mask, (n, H, W) of its own integer dtype, is cropped,
        resized (nearest) and flipped as its image is, and has the pack's `ignore` where the image has padding; with
        several views there is one for each: ([view, view], [mask, mask], labels).
    names: keys for batches as dicts, as {"image": "pixel_values", "label": "labels"} for models of Hugging Face; fields
        without a key keep their name.

    Order:

    shuffle: True shuffles all samples by a keyed permutation of (seed, epoch); False, as in DataLoader, keeps the
        store's order.
    order: another order instead of shuffle: "block" (for data larger than memory: windows of `block` rows, by default
        64 MiB each, in random order, shuffled within sixteen windows at a time), "weighted" (n draws by `weights`: of
        rows with replacement, of the stores of a `largeds_native.concat` as `largeds_native.mix` says), or a torch
        Sampler, BatchSampler, or collection of numbers.
    seed: of the order and of all draws, an integer from 0 to 2**64 - 1.
    block: rows per window of order="block"; or "shard", so that the windows are the store's shards, of which a few, a
        sixteenth of all but 1 to 16, are shuffled together: for a store in object storage whose cache is smaller than
        it is.
    weights: one number per sample, or one per store of a `largeds_native.concat` (as many as samples are one per
        sample); they imply order="weighted".
    indices: a subset, as row numbers or a mask of len(store) bools.
    rank, world_size: by default those of torch.distributed, if it is initialised when an epoch begins. All ranks get
        the same number of batches of the same sizes; without drop_last, up to world_size - 1 samples from the start of
        the epoch are repeated at its end.

    Augmentation:

    augment: an `Augment`; its draws depend on (seed, epoch, sample, view). A list of them makes several views of each
        sample, of a size each, from one decode: batches are ([view, view], *fields). A function of the epoch that
        returns one or the other is asked when an epoch begins, as `lambda epoch: Augment(resized_crop=128 if epoch < 10
        else 192)` for progressive resizing; the number of views stays the same.
    color: a `ColorAugment` for all views, or a list with one or None for each, applied before normalising, on the
        device of the batches; on the CPU in `next()`, in torch's threads. Its draws depend on (seed, epoch, sample,
        view), where a sample that comes twice in an epoch gets other ones. Float images must be in [0, 1].
    variant: if the store has several, "draw" draws one per sample, "cycle" takes the next one in each epoch.

    Format and device:

    mean, std: one number per channel, in [0, 1] units: floats are (x / 255 - mean) / std, or x / 255 without them; of
        uint16 x / 65535, of int16 x / 32768, of floats x. A store that was packed with mean and std takes no others.
    dtype: of the images: torch.float32, float16 or bfloat16; or the store's own integers (uint8, uint16, int16),
        without mean and std. A float store keeps its dtype.
    channels_last: images in torch.channels_last memory format.
    device: "cpu", or a CUDA device: uint8 is then copied from pinned memory on a side stream, up to two batches
        ahead, and normalised in the current stream by one kernel.
    pin_rows: True keeps all rows of the store in memory, pinned, from the first iteration on, and a CUDA device copies
        them itself: no thread gathers, and the copies run at the device's limit. Of raw rows in files, where `augment`
        resizes nothing: it crops and flips on the device. For rows of 50 kB or more; it needs CUDA 12.8 or newer.

    Decoding and threads:

    decode: of a JPEG store, "exact" equals Pillow's pixels; "scaled" decodes at a smaller scale where an image is
        resized to at most half: faster for large photographs, but not exact.
    on_damage: what happens to a row that can't be decoded. "raise" raises an error that names shard, row and reason;
        "skip" takes the next row that can be decoded, with its fields, in its place: the same one each time, and only
        one of `indices`, or with a weight above 0. A warning names the first such row, and `stats()` counts them as
        "replaced". It needs an order of the loader's own, or a list of numbers.
    prefetch: number of batches filled ahead; 0 fills each batch in `next()`.
    threads: of the C++ core; by default all that the process may use, and one in a DataLoader's worker.

    Each iteration is the next epoch, unless `set_epoch(e)` selects another. A batch belongs to the user: its memory is
    reused only when no tensor over it, not even a view, is left. Resuming: `state_dict()` is a few integers that
    describe the batch after the last delivered one; after `load_state_dict`, the next iteration continues there, bit
    for bit, with any number of threads, and with another world size over exactly the samples not yet seen.

    Raises ArgumentError for invalid arguments, before any thread starts. If filling a batch fails, the `next()` that
    would deliver it raises the error. Rows are memory-mapped: if a file of the store is cut off while it is open, the
    process is killed by SIGBUS, as with any memory map; `store.rows.read` reads with pread and raises an error instead.
    Use the loader as a context manager, or `close()` it, to release its memory; garbage collection does that too.
    """

    num_workers = 0  # DataLoader counts processes here; the core's threads belong to this process
    batch_sampler = None  # an attribute of DataLoader; the loader forms its batches itself
    _is_accelerate_prepared = True  # or Accelerate would build a DataLoader of raw rows from `dataset` and `sampler`

    @explains_dataloader_arguments
    def __init__(
        self,
        store: Store,
        batch_size: int | None,
        *,
        drop_last: bool = False,
        fields: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
        shuffle: bool = False,
        order: Literal["block", "weighted"] | Iterable[Any] | None = None,
        seed: int = 0,
        block: int | Literal["shard"] | None = None,
        weights: ArrayLike | Tensor | None = None,
        indices: ArrayLike | Tensor | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        augment: Views | Callable[[int], Views] = None,
        color: Colors = None,
        variant: Literal["draw", "cycle"] = "draw",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        device: str | torch.device = "cpu",
        pin_rows: bool = False,
        decode: Literal["exact", "scaled"] = "exact",
        on_damage: Literal["raise", "skip"] = "raise",
        prefetch: int = 3,
        threads: int | None = None,
    ) -> None:
        if not isinstance(store, Store):
            raise ArgumentError(f"store: expected a Store from largeds_native.open, found {type(store).__name__}")
        if variant not in VARIANTS:
            raise ArgumentError(f"variant: expected one of {', '.join(VARIANTS)}, found {variant!r}")
        if on_damage not in ON_DAMAGE:
            raise ArgumentError(f"on_damage: expected one of {', '.join(ON_DAMAGE)}, found {on_damage!r}")
        self.store, self.seed, self.drop_last = store, check_seed(seed), flag("drop_last", drop_last)
        self.batch_size = None if batch_size is None else _at_least("batch_size", batch_size, 1)
        self.prefetch = _at_least("prefetch", prefetch, 0, MAX_PREFETCH)
        if threads == 0:
            raise ArgumentError(f"threads: expected 1 or more, or None, found 0. Unlike num_workers, {THREADS}")
        self.threads = default_threads() if threads is None else _at_least("threads", threads, 1, MAX_THREADS)
        self.device = named_device(device)
        self._given_ranks = (rank, world_size)
        self.partition = Partition.resolve(rank, world_size)
        options = OrderOptions(shuffle, order, self.seed, block, weights, indices)
        self.plan = choose_plan(options, store, self.batch_size, self.partition, self.drop_last)
        self._skips_damaged = on_damage == "skip"
        self._to_fetch = shards_to_fetch(store, self.plan, self._skips_damaged)
        self._dtype, self._mean_std, self._color = dtype, (mean, std), color
        self._pin_rows = flag("pin_rows", pin_rows)
        self._pinned: PinnedRows | None = None  # from the first iteration on
        self._cut = Cut(self.device)
        self._batch_options: dict[str, Any] = {
            "channels_last": flag("channels_last", channels_last),
            "variant": variant,
            "decode": decode,
            "skip_damaged": self._skips_damaged,
            "candidates": _candidates(self.plan) if self._skips_damaged else None,
        }
        self.fields = field_names(store, fields)
        check_fields(store, self.fields)
        self._keys = keys_of(names, self.fields)
        pictures = store.metadata.pictures
        # and whether each is a mask
        self._pictures = {name: pictures[name].is_mask for name in self.fields if name in pictures}
        self._schedule = ViewSchedule(augment)
        self._views = self._schedule.at(0)
        self._spec: EpochSpec | None = self._epoch_spec(self._views)  # None: closed
        self._normalise: Normalise | None = None  # on the device
        self._stream: Any = None  # on which batches are copied to the device
        self._start = Cursor()  # where the next iteration begins
        self._cursor = self._start  # position after the last delivered batch
        self._iterators: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
        self._latest: weakref.ref[BatchIterator] | None = None
        self._final_stats: dict[str, Any] = {}  # of the last iteration, once it came to its end

    # ---- from the arguments ----------------------------------------------------------------------------------
    def _formats(self, views: tuple[Augment, ...]) -> tuple[BatchFormat, DeviceFormat | None]:
        """(format of the core's batches, format after colours and on the device, or None where that is the same)."""
        floats = self.store.dtype.kind == "f"
        narrow = self.store.dtype == np.uint8 and self.store.channels <= 4
        dtype = None if floats and self._dtype is torch.float32 else self._dtype
        mean, std = self._mean_std
        options = {**self._batch_options, "views": views, "pictures": tuple(self._pictures)}
        final = BatchFormat(self.store, dtype=dtype, mean=mean, std=std, **options)
        if self.device.type not in ("cpu", "cuda"):
            raise ArgumentError(f"device: expected 'cpu' or a CUDA device, found {str(self.device)!r}")
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ArgumentError(f"device: {str(self.device)!r} was requested, but torch finds no CUDA device")
        on_host = self.device.type == "cpu" and self._coloring is None
        if on_host or not narrow or final.dtype is torch.uint8:
            return final, None
        return BatchFormat(self.store, dtype=torch.uint8, **options), DeviceFormat(final.dtype, *final.scale)

    def _epoch_spec(self, views: tuple[Augment, ...]) -> EpochSpec:
        from largeds_native import _C

        self._coloring = coloring_of(self._color, self.store, len(views), self.seed)
        self._host_format, self._device_format = self._formats(views)
        check_shapes(self._coloring, self._host_format.image_shapes)
        check_pictures(self.store, self.fields, views)
        gather, image_bytes = self._host_format.gather, self._host_format.gather.sample_bytes
        if self._pin_rows:
            self._check_pin_rows(views)
            gather = without_images(self.store)
        fields = [core_field(self.store, name) for name in self.fields if name not in self._pictures]
        sample_bytes = gather.sample_bytes + sum(rows.row_bytes for rows, _, _ in fields)
        slot_bytes = min(self.batch_size or 0, len(self.store)) * sample_bytes + 64 * (
            len(views) * (1 + len(self._pictures)) + len(fields)
        )
        # the caller holds one batch while the next is delivered
        self._ring = _C.Ring(slot_bytes, self.prefetch + 2, self.device.type == "cuda")
        # a slot for each view in colour, as large as the largest
        pixels = max(math.prod(shape) for shape in self._host_format.image_shapes)
        view_bytes = pixels * (self._device_format or self._host_format).dtype.itemsize
        self._color_ring = _C.Ring(min(self.batch_size or 0, len(self.store)) * view_bytes, 2 * len(views))
        pool = _C.Pool(self.threads)
        structure = BatchStructure(len(views), self._schedule.listed, self.fields, self._pictures, self._keys)
        return EpochSpec(
            gather,
            fields,
            self._ring,
            pool,
            self.seed,
            self.prefetch,
            self.plan,
            structure,
            image_bytes,
            self._skips_damaged,
            self._to_fetch,
        )

    def _check_pin_rows(self, views: tuple[Augment, ...]) -> None:
        if self.device.type != "cuda":
            raise ArgumentError("pin_rows: rows are pinned for a CUDA device, and device is 'cpu'")
        given = self._mean_std != (None, None)
        stored = torch_dtype(self.store.dtype)
        converted = self._host_format.dtype is not stored or (given and self._device_format is None)
        check_pin_rows(self.store, views, tuple(self._pictures), converted)

    def _begin_epoch(self, epoch: int) -> EpochSpec:
        if self._spec is None:
            raise ArgumentError("the loader is closed")
        self._find_ranks()
        views = self._schedule.at(epoch)
        if views != self._views:
            self._spec, self._views = self._epoch_spec(views), views
        if self._pin_rows and self._pinned is None:
            with torch.cuda.device(self.device):
                self._pinned = PinnedRows(self.store)
        return self._spec

    def empty_batch(self) -> Batch:
        """A batch of no samples, in CPU memory: the structure, shapes and dtypes of all batches."""
        if self._spec is None:
            raise ArgumentError("the loader is closed")
        host = self._host_format
        dtypes = [(self._device_format or host).dtype, *host.picture_dtypes] * len(host.image_shapes)
        shapes = host.gather.sample_shapes
        parts = [torch.empty(0, *shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
        parts += [torch.empty(0, *shape, dtype=getattr(torch, name)) for _, name, shape in self._spec.fields]
        return self._spec.structure.batch(tuple(parts))

    # ---- what Accelerate, Lightning and scripts look for in a DataLoader -----------------------------------------
    @property
    def dataset(self) -> Store:
        """The store, so that `len(loader.dataset)` is its number of samples."""
        return self.store

    @property
    def sampler(self) -> Sampler[Any] | None:
        """The Sampler given as `order`; torch's SequentialSampler for the store's order. None if the loader itself
        shuffles, or `order` gives whole batches."""
        if isinstance(self.plan, SamplerPlan):
            given = self.plan.sampler
            return given if isinstance(given, Sampler) and not isinstance(given, BatchSampler) else None
        return SequentialSampler(range(self.plan.length)) if self.plan.order.name == Sequential.name else None

    # ---- iterating -------------------------------------------------------------------------------------------
    def _find_ranks(self) -> None:
        """The process may have joined a group since the loader was made, as under Lightning's `fit(devices=2)`."""
        partition = Partition.resolve(*self._given_ranks)
        if partition == self.partition:
            return
        self.partition = partition
        if isinstance(self.plan, OrderPlan):
            self.plan = self.plan.for_partition(partition)
        if self._spec is not None:
            self._spec = replace(self._spec, plan=self.plan)

    def __getitem__(self, index: Any) -> Any:
        # by a DataLoader, which takes whatever has a length as a Dataset
        raise TypeError(
            "a Loader gives batches in its own order, and can't be indexed. Iterate over it, as over a DataLoader; or "
            "give a DataLoader a largeds_native.StoreDataset of the store"
        )

    def __len__(self) -> int:
        """Number of batches in a whole epoch, for this rank."""
        self._find_ranks()
        return len(self.plan)

    @property
    def remaining(self) -> int:
        """Number of batches from the last delivered one to the end of its epoch, for this rank. After
        `load_state_dict`, it is the length of the next iteration. `len(loader)` is the length of a whole epoch."""
        self._find_ranks()
        return self.plan.remaining(self._cursor.position)

    @property
    def world_size(self) -> int | None:
        """Over how many ranks the samples are shared out; None with a sampler, which has a share of its own."""
        self._find_ranks()
        return self.partition.world_size if isinstance(self.plan, OrderPlan) else None

    @property
    def padding(self) -> int:
        """How many samples at the end of this rank's last batch only fill it up, where the samples don't divide by
        world_size: they come again from the epoch's start, so a sum over all ranks must leave them out. Of the same
        iteration as `remaining`; 0 with a sampler."""
        self._find_ranks()
        return self.plan.padding(self._cursor.position) if isinstance(self.plan, OrderPlan) else 0

    def __iter__(self) -> Iterator[Batch]:
        cursor = self._start
        spec = self._begin_epoch(cursor.epoch)
        self._cursor, self._start = cursor, Cursor(cursor.epoch + 1)
        host = HostIterator(spec, cursor)
        self._final_stats = {}
        iterator = BatchIterator(host, self._source(host, cursor), cursor, self._final_stats)
        self._iterators.add(iterator)
        self._latest = weakref.ref(iterator)
        return iterator

    def _source(self, host: HostIterator, cursor: Cursor) -> BatchSource:
        if self.device.type != "cpu":
            if self._stream is None:
                self._stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            if self._device_format is not None and self._normalise is None:
                self._normalise = Normalise(self._device_format, self.device)
            rows = None if self._pinned is None else self._row_images(self._pinned)
            return DeviceIterator(host, cursor, self.device, self._normalise, self._coloring, self._stream, rows)
        if self._coloring is None:
            return host
        return ColorIterator(host, cursor.epoch, self._coloring, self._device_format, self._color_ring)

    def _row_images(self, pinned: PinnedRows) -> RowImages:
        format = self._host_format
        return RowImages(
            self.store, pinned, self._views, format.image_shapes, format.channels_last, self.seed, self._cut
        )

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its start."""
        number = _at_least("epoch", epoch, 0)
        if number > MAX_EPOCH:
            raise ArgumentError(f"epoch: expected 0 to 2**63 - 1, found {epoch!r}")
        self._cursor = self._start = Cursor(number)

    # ---- resuming --------------------------------------------------------------------------------------------
    @property
    def _identity(self) -> Identity:
        return Identity(self.seed, int(self.store.identity, 16), self.plan.fingerprint)

    def state_dict(self) -> dict[str, int]:
        """Describes where the batch after the last delivered one begins: version, epoch, and position (in samples over
        all ranks; in batches with a batch sampler), and what must be the same on resume: seed, store, and order."""
        return state_of(self._identity, self._cursor)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration continues from `state`. Raises StateError if its store, order or version is another."""
        self._cursor = self._start = cursor_of(
            state, self._identity, self.plan.length if isinstance(self.plan, OrderPlan) else None
        )

    # ---- life ------------------------------------------------------------------------------------------------
    def stats(self) -> dict[str, Any]:
        """Statistics of the last iteration, while its iterator is alive or if it came to its end, and of the ring of
        batch memory.

        batches, samples, bytes: delivered; bytes counts images alone.
        images_per_second: over the time from the first call to the last batch.
        waiting_share: share of that time spent in `next()`; if it is near 0, the loader is not the bottleneck.
        filling_seconds: time in which the core was filling at least one batch.
        waiting_seconds: time that callers spent in `next()`, in all.
        waits: how many batches were not ready when they were asked for. A loader that keeps up has one or two in an
            epoch, at its start; with prefetch=0 nearly all are.
        longest_wait_seconds: the longest time that one of them was waited for.
        pending: submitted batches that are not delivered yet.
        ready: those of them that are filled.
        replaced: samples that stand in for a damaged one, with on_damage="skip"; `damage` is the first one's error.
        read_ahead: samples that were not in memory when their batch was submitted, and were requested from the disk.
        slots, slots_in_use, slot_bytes, allocations: of the ring.

        And of a store in object storage:
        fetched_bytes, fetched_shards: that came for this iteration; other processes of the machine count their own.
        cache_hits: shards that were in the cache when they were first needed.
        fetch_waiting_seconds: time in which `next()` waited for shards.

        And on a CUDA device, of the work that is done there:
        copied_bytes, copy_seconds: of the copies to the device, which run beside the caller's work; with `pin_rows`,
            seconds of cutting out, too.
        device_waiting_seconds: time that the device stood still because a batch was not copied yet.
        device_kernel: what normalises, or cuts out, "triton", or "torch" where Triton can't; None if nothing does.
        """
        latest = self._latest() if self._latest is not None else None
        return (latest.stats() if latest is not None else self._final_stats) | self._ring.stats()

    def close(self) -> None:
        """Ends all iterations and frees the memory of idle slots. Batches that the caller holds stay valid. Rows are
        pinned until the iterators are gone, too, and all other loaders of the store that pinned them."""
        self._spec = None
        for iterator in list(self._iterators):
            iterator.close()
        self._ring.trim()
        self._color_ring.trim()
        self._pinned = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Loader can't be pickled: create one in each process, and send its state_dict() there")

    def __repr__(self) -> str:
        order = self.plan.order.name if isinstance(self.plan, OrderPlan) else type(self.plan.sampler).__name__
        parts = [f"{self.batch_size} a batch" if self.batch_size else "batches of the sampler", f"order {order}"]
        shapes = " and ".join(str(shape) for shape in self._host_format.image_shapes)
        parts += [f"{shapes} {self._host_format.dtype}", f"{self.threads} threads"]
        if self.partition.world_size > 1:
            parts.append(f"rank {self.partition.rank} of {self.partition.world_size}")
        return f"<Loader of {self.store.location!r}: {', '.join(parts)}>"


def _candidates(plan: OrderPlan | SamplerPlan) -> NDArray[np.int64] | None:
    """The samples that the loader may deliver, in order; None if they are all of the store. ArgumentError for a sampler
    that does not tell."""
    if isinstance(plan, OrderPlan):
        return plan.order.candidates()
    if plan.batch_size is None or not isinstance(plan.sampler, (list, tuple, range, np.ndarray, Tensor)):
        raise ArgumentError(
            f"on_damage='skip': which samples {type(plan.sampler).__name__} leaves out is not known, so that no other "
            "can take the place of a damaged one: use the loader's own orders with indices=, or on_damage='raise'"
        )
    return np.unique(np.asarray(plan.sampler, np.int64))


def _at_least(name: str, value: Any, least: int, most: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or (most is not None and number > most):
        expected = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name}: expected an integer, {expected}, found {value!r}")
    return number
