"""The loader: batches of a store, filled ahead by C++ threads."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from largeds_native.errors import ArgumentError
from largeds_native.loading.choose_order import OrderOptions, choose_plan
from largeds_native.loading.cuda import DeviceFormat, DeviceIterator
from largeds_native.loading.cursor import Cursor
from largeds_native.loading.fields import check_pictures, core_field, field_names
from largeds_native.loading.iterator import Batch, BatchIterator, EpochSpec, HostIterator, Taken
from largeds_native.loading.order import Sequential, check_seed
from largeds_native.loading.partition import Partition
from largeds_native.loading.plan import OrderPlan, SamplerPlan
from largeds_native.loading.state import Identity, cursor_of, state_of
from largeds_native.store import Store
from largeds_native.store.gather import BatchFormat, default_threads
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

VARIANTS = ("draw", "cycle")


class Loader:
    """Iterates over batches of a store: tuples (images, *fields), images (n, C, H, W), each field (n, ...).

    store: from `largeds_native.open` or `pack`. batch_size: samples a batch and rank; None with a batch sampler.
    shuffle: all samples, by a keyed permutation of (seed, epoch); False keeps the store's order, as DataLoader does.
    order: another order in place of shuffle: "block" (windows of `block` rows in random order, shuffled within sixteen
        of them at a time; default 64 MiB each; for data larger than memory), "weighted" (n draws by `weights`, with
        replacement), or a torch Sampler, BatchSampler, or collection of numbers.
    seed: an integer from 0 to 2**64 - 1. augment: an `Augment`; its draws depend on (seed, epoch, sample).
    mean, std: a number each channel, in [0, 1] units; without, floats are x / 255. A store of floats passes through.
    dtype: torch.float32, float16, bfloat16 or uint8. channels_last: images in torch.channels_last memory format.
    device: "cpu", or a CUDA device: uint8 is then copied from pinned memory on a side stream and normalised there.
    prefetch: batches filled ahead; 0 fills each when it is asked for. threads: of the C++ core; default what the
        process may use, one in a DataLoader's worker.
    drop_last: leave out the epoch's last batch where it is not full.
    indices: a subset: numbers, or a mask of len(store) bools. weights: a number each sample; order="weighted" is then
        understood.
    rank, world_size: default torch.distributed's where it is initialised when an epoch begins. Every rank gets equally many batches of
        equal sizes; without drop_last up to world_size - 1 samples of the epoch's start come again at its end.
    fields: whose values come with the images; None: ("label",) where the store has one, else none. Without a field a
        batch is the tuple (images,). variant: of several, "draw" one a sample, or "cycle" by epoch.

    Each iteration is the next epoch, unless `set_epoch(e)` says which. A batch is the user's: its memory is used again
    only when neither it nor a view of it is left. Resuming: `state_dict()` is a few integers that describe the batch
    after the last one delivered; `load_state_dict` makes the next iteration go on there, bit for bit, with any number
    of threads, and with another world size over exactly the samples not yet seen.

    Raises ArgumentError for arguments that don't fit, before any thread starts. An error in filling a batch is raised
    by the `next()` that would deliver it. Rows are mapped: a store's file that is cut off while it is open ends the
    process (SIGBUS), as with any memory map; `store.rows.read` reads with pread and says so. Use the loader as a
    context manager, or `close()` it, to give its memory back; a dropped loader does so too.
    """

    num_workers = 0  # processes, as DataLoader counts them: the threads of the core are in this one
    batch_sampler = None  # as DataLoader's: none is needed, the loader makes its own batches
    _is_accelerate_prepared = True  # Accelerate would take `dataset` and `sampler` and make a DataLoader of raw rows

    def __init__(
        self,
        store: Store,
        batch_size: int | None,
        *,
        shuffle: bool = False,
        order: Literal["block", "weighted"] | Iterable[Any] | None = None,
        seed: int = 0,
        augment: Augment | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        device: str | torch.device = "cpu",
        prefetch: int = 3,
        threads: int | None = None,
        drop_last: bool = False,
        indices: ArrayLike | Tensor | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        fields: Sequence[str] | None = None,
        block: int | None = None,
        weights: ArrayLike | Tensor | None = None,
        variant: Literal["draw", "cycle"] = "draw",
    ) -> None:
        if not isinstance(store, Store):
            raise ArgumentError(f"store: expected a Store, as largeds_native.open gives, found {type(store).__name__}")
        if augment is not None and not isinstance(augment, Augment):
            raise ArgumentError(f"augment: expected an Augment or None, found {type(augment).__name__}")
        if variant not in VARIANTS:
            raise ArgumentError(f"variant: expected one of {', '.join(VARIANTS)}, found {variant!r}")
        self.store, self.seed, self.drop_last = store, check_seed(seed), bool(drop_last)
        self.batch_size = None if batch_size is None else _at_least("batch_size", batch_size, 1)
        self.prefetch = _at_least("prefetch", prefetch, 0)
        self.threads = default_threads() if threads is None else _at_least("threads", threads, 1)
        self.device = torch.device(device)
        self._ranks_given = (rank, world_size)
        self.partition = Partition.found(rank, world_size)
        options = OrderOptions(shuffle, order, self.seed, block, weights, indices)
        self.plan = choose_plan(options, len(store), store.row_bytes, self.batch_size, self.partition, self.drop_last)
        batch_options: dict[str, Any] = {"channels_last": channels_last, "augment": augment, "variant": variant}
        self._host_format, self._device_format = self._formats(dtype, mean, std, batch_options)
        self.fields = field_names(store, fields)
        check_pictures(store, self.fields, augment)
        self._spec: EpochSpec | None = self._epoch_spec()  # None: closed
        self._ring = self._spec.ring
        self._start = Cursor()  # of the next iteration
        self._cursor = self._start  # after the last batch delivered
        self._iterators: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
        self._latest: weakref.ref[BatchIterator] | None = None

    # ---- from the arguments ----------------------------------------------------------------------------------
    def _formats(
        self, dtype: torch.dtype, mean: Any, std: Any, options: dict[str, Any]
    ) -> tuple[BatchFormat, DeviceFormat | None]:
        """(what the core makes, what the device makes of it: None for the same)."""
        floats = self.store.dtype != np.uint8
        final_dtype = None if floats and dtype is torch.float32 else dtype
        final = BatchFormat(self.store, dtype=final_dtype, mean=mean, std=std, **options)
        if self.device.type not in ("cpu", "cuda"):
            raise ArgumentError(f"device: expected 'cpu' or a CUDA device, found {str(self.device)!r}")
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise ArgumentError(f"device: {str(self.device)!r} was asked for, and torch finds no CUDA device")
        if self.device.type == "cpu" or floats or final.dtype is torch.uint8:
            return final, None
        return BatchFormat(self.store, dtype=torch.uint8, **options), DeviceFormat(final.dtype, *final.scale)

    def _epoch_spec(self) -> EpochSpec:
        from largeds_native import _C

        gather = self._host_format.gather
        fields = [core_field(self.store, name) for name in self.fields]
        sample_bytes = gather.sample_bytes + sum(rows.row_bytes for rows, _, _ in fields)
        slot_bytes = min(self.batch_size or 0, len(self.store)) * sample_bytes + 64 * len(fields)
        # the caller holds one batch while the next is delivered
        ring = _C.Ring(slot_bytes, self.prefetch + 2, self.device.type == "cuda")
        return EpochSpec(gather, fields, ring, _C.Pool(self.threads), self.seed, self.prefetch, self.plan)

    # ---- what Accelerate, Lightning and scripts look for in a DataLoader -----------------------------------------
    @property
    def dataset(self) -> Store:
        """The store, so that `len(loader.dataset)` is its number of samples."""
        return self.store

    @property
    def sampler(self) -> Sampler[Any] | None:
        """The Sampler given as `order`; torch's SequentialSampler for the store's order. None: the loader shuffles by
        itself, or `order` gives whole batches."""
        if isinstance(self.plan, SamplerPlan):
            given = self.plan.sampler
            return given if isinstance(given, Sampler) and not isinstance(given, BatchSampler) else None
        return SequentialSampler(range(self.plan.length)) if self.plan.order.name == Sequential.name else None

    # ---- iterating -------------------------------------------------------------------------------------------
    def _find_ranks(self) -> None:
        """The process may have joined a group since the loader was made, as under Lightning's `fit(devices=2)`."""
        partition = Partition.found(*self._ranks_given)
        if partition == self.partition:
            return
        self.partition = partition
        if isinstance(self.plan, OrderPlan):
            self.plan = self.plan.shared_out(partition)
        if self._spec is not None:
            self._spec = replace(self._spec, plan=self.plan)

    def __len__(self) -> int:
        """Batches in a whole epoch, for this rank."""
        self._find_ranks()
        return len(self.plan)

    @property
    def remaining(self) -> int:
        """Batches after the last one delivered, to the end of its epoch, for this rank: after `load_state_dict`, those
        of the next iteration. `len(loader)` is that of a whole epoch."""
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
        if self._spec is None:
            raise ArgumentError("the loader is closed")
        self._find_ranks()
        cursor = self._start
        self._cursor, self._start = cursor, Cursor(cursor.epoch + 1)
        host = HostIterator(self._spec, cursor)
        iterator = BatchIterator(host, self._source(host), cursor)
        self._iterators.add(iterator)
        self._latest = weakref.ref(iterator)
        return iterator

    def _source(self, host: HostIterator) -> Iterator[Taken]:
        return host if self.device.type == "cpu" else DeviceIterator(host, self.device, self._device_format)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its start."""
        self._cursor = self._start = Cursor(_at_least("epoch", epoch, 0))

    # ---- resuming --------------------------------------------------------------------------------------------
    @property
    def _identity(self) -> Identity:
        return Identity(self.seed, int(self.store.identity, 16), self.plan.fingerprint)

    def state_dict(self) -> dict[str, int]:
        """Where the batch after the last one delivered begins: version, epoch, position (in samples, over all ranks;
        in batches with a batch sampler), and what must be the same: seed, store, order."""
        return state_of(self._identity, self._cursor)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on from there. Raises StateError for a state of another store, order or version."""
        self._cursor = self._start = cursor_of(state, self._identity, self.plan.length)

    # ---- life ------------------------------------------------------------------------------------------------
    def stats(self) -> dict[str, Any]:
        """Of the last iteration while its iterator is alive, and of the ring.

        batches, samples, bytes (of images): delivered. images_per_second, and waiting_share: of the time from the
        first call to the last batch; where the caller waited for nearly 0 of it, the loader is not what limits.
        filling_seconds: spent filling batches; waiting_seconds: in `next()`. pending: submitted and not delivered;
        ready: those of them that are filled. read_ahead: samples of batches that were not in memory when they were
        submitted, and asked for. slots, slots_in_use, slot_bytes, allocations: of the ring.
        """
        latest = self._latest() if self._latest is not None else None
        return (latest.stats() if latest is not None else {}) | self._ring.stats()

    def close(self) -> None:
        """Ends all iterations and gives the memory of idle slots back. Batches that the caller holds stay whole."""
        self._spec = None
        for iterator in list(self._iterators):
            iterator.close()
        self._ring.trim()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Loader can't be pickled: make one in each process; its state_dict() can be carried there")

    def __repr__(self) -> str:
        order = self.plan.order.name if isinstance(self.plan, OrderPlan) else type(self.plan.sampler).__name__
        parts = [f"{self.batch_size} a batch" if self.batch_size else "batches of the sampler", f"order {order}"]
        parts += [f"{self._host_format.image_shape} {self._host_format.dtype}", f"{self.threads} threads"]
        if self.partition.world_size > 1:
            parts.append(f"rank {self.partition.rank} of {self.partition.world_size}")
        return f"<Loader of {str(self.store.path)!r}: {', '.join(parts)}>"


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ArgumentError(f"{name}: expected an integer, {least} or more, found {value!r}")
    return number
