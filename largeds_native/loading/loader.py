"""The loader: batches of a store, made ahead in C++ threads."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from largeds_native.errors import ArgumentError
from largeds_native.loading.iterator import Batch, BatchIterator
from largeds_native.loading.order import Block, Numbers, Order, Random, Sequential, Subset, Weighted, check_seed
from largeds_native.loading.plan import OrderPlan, SamplerPlan
from largeds_native.loading.ranks import Ranks
from largeds_native.loading.state import checked_state, state_of
from largeds_native.store import Store
from largeds_native.store.gather import BatchFormat, default_threads, dtype_name, index_array
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

VARIANTS = ("draw", "cycle")
ORDERS = ("sequential", "random", "block", "weighted")
WINDOW_BYTES = 1 << 26  # default size of a window of the block order


class Loader:
    """Iterates over batches of a store: tuples (images, *fields), images (n, C, H, W), each field (n, ...).

    store: from `largeds_native.open` or `pack`. batch_size: samples a batch and rank; None with a batch sampler.
    order: "random" (a keyed permutation of seed and epoch), "sequential", "block" (windows of `block` rows in random
        order, shuffled within sixteen of them at a time; default 64 MiB each; for data larger than memory),
        "weighted" (n draws by `weights`, with replacement), or a torch Sampler, BatchSampler, or collection of numbers.
    seed: an integer from 0 to 2**64 - 1. augment: an `Augment`; its draws depend on (seed, epoch, sample).
    mean, std: a number each channel, in [0, 1] units; without, floats are x / 255. A store of floats passes through.
    dtype: torch.float32, float16, bfloat16 or uint8. channels_last: images in torch.channels_last memory format.
    device: "cpu", or a CUDA device: uint8 is then copied from pinned memory on a side stream and normalised there.
    prefetch: batches made ahead; 0 makes each when it is asked for. threads: of the C++ core; default what the process
        may use, one in a DataLoader's worker.
    drop_last: leave out the epoch's last batch where it is not full.
    indices: a subset: numbers, or a mask of len(store) bools. weights: a number each sample of the order.
    rank, world_size: default torch.distributed's where it is initialised. Every rank gets equally many batches of
        equal sizes; without drop_last up to world_size - 1 samples of the epoch's start come again at its end.
    fields: whose values come with the images. variant: of several, "draw" one a sample, or "cycle" by epoch.

    Each iteration is the next epoch, unless `set_epoch(e)` says which. A batch is the user's: its memory is used again
    only when neither it nor a view of it is left. Resuming: `state_dict()` is a few integers that describe the batch
    after the last one delivered; `load_state_dict` makes the next iteration go on there, bit for bit, with any number
    of threads, and with another world size over exactly the samples not yet seen.

    Raises ArgumentError for arguments that don't fit, before any thread starts, and at `next()` whatever befell a
    batch. Rows are mapped: a store's file that is cut off while it is open ends the process (SIGBUS), as with any
    memory map; `store.rows.read` reads with pread and says so. Use the loader as a context manager, or `close()` it,
    to give its memory back; a dropped loader does so too.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int | None,
        *,
        order: Literal["sequential", "random", "block", "weighted"] | Iterable[Any] = "random",
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
        fields: Sequence[str] = ("label",),
        block: int | None = None,
        weights: ArrayLike | Tensor | None = None,
        variant: Literal["draw", "cycle"] = "draw",
    ) -> None:
        from largeds_native import _C

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
        self.ranks = Ranks.found(rank, world_size)
        self.plan = self._plan(order, indices, block, weights)
        self.format, self._on_device = self._formats(dtype, mean, std, channels_last, augment, variant)
        self.fields = (fields,) if isinstance(fields, str) else tuple(fields)
        self.core_fields = [_core_field(store, name) for name in self.fields]
        sample = self.format.gather.sample_bytes + sum(rows.row_bytes for rows, _, _ in self.core_fields)
        slot = min(self.batch_size or 0, len(store)) * sample
        # the caller holds one batch while the next is delivered
        pinned = self.device.type == "cuda"
        self.ring = _C.Ring(slot + 64 * len(self.core_fields), self.prefetch + 2, pinned)
        self.pool: _C.Pool | None = _C.Pool(self.threads)
        self._at = (0, 0)  # (epoch, position) after the last batch delivered
        self._next = (0, 0)  # of the next iteration
        self._iterators: weakref.WeakSet[BatchIterator] = weakref.WeakSet()
        self._latest: weakref.ref[BatchIterator] | None = None  # the one that `_at` follows
        self._closed = False

    # ---- from the arguments ----------------------------------------------------------------------------------
    def _plan(self, order: Any, indices: Any, block: int | None, weights: Any) -> OrderPlan | SamplerPlan:
        chosen = None if indices is None else _subset(indices, len(self.store))
        n = len(self.store) if chosen is None else len(chosen)
        if not isinstance(order, str):
            if indices is not None or weights is not None or block is not None:
                raise ArgumentError("indices, weights and block are for the loader's own orders, not for a sampler")
            return SamplerPlan(order, self.batch_size, self.drop_last)
        if self.batch_size is None:
            raise ArgumentError("batch_size: expected a number; None is for a batch sampler given as `order`")
        if n == 0:
            raise ArgumentError(
                f"expected at least one sample, found an empty {'store' if chosen is None else 'subset'}"
            )
        made = self._order("weighted" if weights is not None and order == "random" else order, n, block, weights)
        return OrderPlan(made if chosen is None else Subset(made, chosen), self.batch_size, self.ranks, self.drop_last)

    def _order(self, name: str, n: int, block: int | None, weights: Any) -> Order:
        if (weights is not None) != (name == "weighted"):
            raise ArgumentError(f"weights are for order='weighted' and needed there, found order={name!r}")
        if block is not None and name != "block":
            raise ArgumentError(f"block is for order='block', found order={name!r}")
        if name == "sequential":
            return Sequential(n)
        if name == "random":
            return Random(n, self.seed)
        if name == "block":
            default = max(1, WINDOW_BYTES // self.store.row_bytes)
            return Block(n, self.seed, default if block is None else block)
        if name == "weighted":
            return Weighted(weights, n, self.seed)
        raise ArgumentError(f"order: expected one of {', '.join(ORDERS)} or a sampler, found {name!r}")

    def _formats(
        self, dtype: torch.dtype, mean: Any, std: Any, channels_last: bool, augment: Augment | None, variant: str
    ) -> tuple[BatchFormat, BatchFormat | None]:
        """(what the core makes, what is made of it on the device: None for the same)."""
        words: dict[str, Any] = {"channels_last": channels_last, "augment": augment, "variant": variant}
        baked = self.store.dtype != np.uint8
        wanted = None if baked and dtype is torch.float32 else dtype
        final = BatchFormat(self.store, dtype=wanted, mean=mean, std=std, **words)
        if self.device.type == "cpu":
            return final, None
        if self.device.type != "cuda":
            raise ArgumentError(f"device: expected 'cpu' or a CUDA device, found {str(self.device)!r}")
        if not torch.cuda.is_available():
            raise ArgumentError(f"device: {str(self.device)!r} was asked for, and torch finds no CUDA device")
        return (final if baked else BatchFormat(self.store, dtype=torch.uint8, **words)), final

    # ---- iterating -------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        """Batches in a whole epoch, for this rank."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        if self._closed:
            raise ArgumentError("the loader is closed")
        epoch, position = self._at = self._next
        self._next = (epoch + 1, 0)
        if self._on_device is None:
            iterator = BatchIterator(self, epoch, position)
        else:
            from largeds_native.loading.cuda import DeviceIterator

            iterator = DeviceIterator(self, epoch, position, self._on_device)
        self._iterators.add(iterator)
        self._latest = weakref.ref(iterator)
        return iterator

    def _reached(self, iterator: BatchIterator, epoch: int, position: int) -> None:
        if self._latest is not None and self._latest() is iterator:
            self._at = (epoch, position)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its start."""
        self._at = self._next = (_at_least("epoch", epoch, 0), 0)
        self._latest = None

    # ---- resuming --------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, int]:
        """Where the batch after the last one delivered begins: version, epoch, position (in samples, over all ranks;
        in batches with a batch sampler), and what must be the same: seed, store, order."""
        return state_of(self, *self._at)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration goes on from there. Raises StateError for a state of another store, order or version."""
        self._at = self._next = checked_state(self, state)
        self._latest = None

    # ---- life ------------------------------------------------------------------------------------------------
    def stats(self) -> dict[str, Any]:
        """Of the last iteration while its iterator is alive, and of the ring.

        batches, samples, bytes (of images): delivered. images_per_second, and waiting_share: of the time from the
        first call to the last batch; where the caller waited for nearly 0 of it, the loader is not what limits.
        filling_seconds: spent making batches; waiting_seconds: in `next()`. pending, ready: submitted, and made, but
        not delivered. read_ahead: samples of batches that were not in memory when they were submitted, and asked for.
        slots, slots_in_use, slot_bytes, allocations: of the ring.
        """
        latest = self._latest() if self._latest is not None else None
        return (latest.host.stats() if latest is not None else {}) | self.ring.stats()

    def close(self) -> None:
        """Ends all iterations and gives the memory of idle slots back. Batches that the caller holds stay whole."""
        self._closed = True
        for iterator in list(self._iterators):
            iterator.host.close()
        self.ring.trim()
        self.pool = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a Loader can't be pickled: make one in each process; its state_dict() can be carried there")

    def __repr__(self) -> str:
        order = self.plan.order.name if isinstance(self.plan, OrderPlan) else type(self.plan.sampler).__name__
        parts = [f"{self.batch_size} a batch" if self.batch_size else "batches of the sampler", f"order {order}"]
        parts += [f"{self.format.image_shape} {self.format.dtype}", f"{self.threads} threads"]
        if self.ranks.world_size > 1:
            parts.append(f"rank {self.ranks.rank} of {self.ranks.world_size}")
        return f"<Loader of {str(self.store.path)!r}: {', '.join(parts)}>"


def _at_least(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ArgumentError(f"{name}: expected an integer, {least} or more, found {value!r}")
    return number


def _subset(indices: Any, n: int) -> Numbers:
    array = np.asarray(indices)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ArgumentError(f"indices: expected a mask of {n} bools, found shape {array.shape}")
        return np.flatnonzero(array)
    numbers = index_array(array)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= n):
        found = f"{numbers.min()} to {numbers.max()}"
        raise ArgumentError(f"indices: expected numbers from 0 to {n - 1}, found {found}")
    return numbers


def _core_field(store: Store, name: str) -> tuple[Any, str, list[int]]:
    """A field for the core: its rows, the name of torch's dtype, and the shape of one value."""
    if name not in store.fields:
        found = ", ".join(repr(field) for field in store.fields) or "none"
        raise ArgumentError(f"fields: {store.path} has no field {name!r}, its fields are: {found}. Say fields=(...)")
    values = store.field(name)
    try:
        dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    except TypeError:
        raise ArgumentError(f"fields: {name!r} is of {values.dtype}, which torch has no tensors of") from None
    return store.field_rows(name), dtype_name(dtype), list(values.shape[1:])
