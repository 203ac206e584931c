"""A torch Sampler with the orders of the Loader, for use with torch's DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from largeds_native.errors import StateError
from largeds_native.loading.cursor import Cursor, Progress
from largeds_native.loading.order import MAX_ROWS, Block, Order, Random, check_seed
from largeds_native.loading.partition import Partition
from largeds_native.loading.state import MAX_EPOCH, check_epoch, check_position
from largeds_native.transform.image_transform import integer

VERSION = 1
STEP = 4096  # positions computed at a time


class ShuffleSampler(Sampler[int]):
    """0 .. n - 1 in a shuffled order that is a function of (seed, epoch), in O(1) memory, resumable.

    n: the number of samples.
    seed: an integer from 0 to 2**64 - 1.
    block: None shuffles all samples; a number shuffles windows of that many neighbouring rows, for data larger than
        memory (see `largeds_native.loading.order.Block`).
    rank, world_size: this process gets every world_size-th position; all ranks get the same number of samples, for
        which up to world_size - 1 samples from the start of the epoch are repeated.

    Each iteration is the whole next epoch, unless `set_epoch(e)` selects another or a state was loaded. `state_dict()`
    is {"version", "seed", "epoch", "position"}; position is the number of samples given to all ranks together. After
    `load_state_dict`, the next iteration continues there, with any world size. DataLoader's workers draw samples ahead
    of the batches: count the batches yourself and call
    `load_state_dict(dict(state, position=batches * batch_size * world_size))`.

    Raises ArgumentError for n below 1 and an invalid seed, block or rank; StateError for a state that does not fit.
    """

    def __init__(self, n: int, seed: int = 0, block: int | None = None, rank: int = 0, world_size: int = 1) -> None:
        n = integer("n", n, 1, MAX_ROWS)
        seed = check_seed(seed)
        self.n, self.seed, self.block = n, seed, block
        self._partition = Partition.resolve(rank, world_size)
        self._order: Order = Random(n, seed) if block is None else Block(n, seed, block)
        self._start = Cursor()  # of the next iteration
        self._cursor = self._start  # after the last sample given

    @property
    def rank(self) -> int:
        return self._partition.rank

    @property
    def world_size(self) -> int:
        return self._partition.world_size

    def __len__(self) -> int:
        return -(-self.n // self._partition.world_size)

    def __iter__(self) -> Iterator[int]:
        cursor = self._start
        self._cursor, self._start = cursor, Cursor(cursor.epoch + 1)
        return self._numbers(cursor)

    def _numbers(self, cursor: Cursor) -> Iterator[int]:
        rank, world = self._partition.rank, self._partition.world_size
        epoch, position = cursor.epoch, cursor.position
        while position < self.n:
            rounds = min(STEP, -(-(self.n - position) // world))
            numbers = self._order.wrapped(epoch, position, rounds * world)[rank::world]
            for number in numbers.tolist():
                position = min(position + world, self.n)
                cursor.at = (epoch, Progress(position)) if position < self.n else (epoch + 1, Progress())
                yield number

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, from its start."""
        self._cursor = self._start = Cursor(integer("epoch", epoch, 0, MAX_EPOCH))

    def state_dict(self) -> dict[str, int]:
        cursor = self._cursor
        return {"version": VERSION, "seed": self.seed, "epoch": cursor.epoch, "position": cursor.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        expected = {"version": VERSION, "seed": self.seed}
        for name, value in expected.items():
            if state.get(name) != value:
                raise StateError(f"the state's {name} is {state.get(name)!r}, expected {value}")
        self._cursor = self._start = Cursor(check_epoch(state), Progress(check_position(state, self.n)))
