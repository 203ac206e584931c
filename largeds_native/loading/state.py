"""The state of a loader, and the check that it belongs to this loader."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from largeds_native.errors import StateError
from largeds_native.loading.cursor import Cursor, Progress

VERSION = 1
MAX_EPOCH = (1 << 63) - 1
MISMATCHES = {
    "store": "was taken with another store",
    "order": "was taken with another order, seed, or indices",
    "seed": "was taken with another seed",
}


@dataclass(frozen=True)
class Identity:
    """A state fits only if these are equal: the seed, and the fingerprints of the store and of the order."""

    seed: int
    store: int
    order: int


def state_of(identity: Identity, cursor: Cursor) -> dict[str, int]:
    """Integers only: the progress at which the next batch begins, and the identity."""
    epoch, progress = cursor.at
    return {"version": VERSION, "epoch": epoch, **progress._asdict(), **asdict(identity)}


def cursor_of(state: dict[str, Any], identity: Identity, length: int | None) -> Cursor:
    """The position in a state. `length`: of the epoch; None if it is unknown.

    Raises StateError when the state is of another version, store or order.
    """
    if not isinstance(state, dict) or "version" not in state:
        raise StateError(f"expected the state_dict() of a Loader, found {state!r:.200}")
    if state["version"] != VERSION:
        raise StateError(f"the loader's state is of version {state['version']!r}, this release reads {VERSION}")
    for name, value in asdict(identity).items():
        if state.get(name) != value:
            raise StateError(f"the loader's state {MISMATCHES[name]}: {name} is {state.get(name)!r}, expected {value}")
    digest = state.get("digest", 0)
    if not isinstance(digest, int):
        raise StateError(f"the loader's state is damaged: expected digest to be an integer, found {digest!r}")
    return Cursor(check_epoch(state), Progress(check_position(state, length), digest))


def check_epoch(state: dict[str, Any]) -> int:
    epoch = state.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch <= MAX_EPOCH:
        raise StateError(f"expected an epoch of 0 or more in the state, found {epoch!r}")
    return epoch


def check_position(state: dict[str, Any], length: int | None) -> int:
    """`length`: of the epoch; None if it is unknown."""
    position = state.get("position")
    if not isinstance(position, int) or position < 0 or (length is not None and position > length):
        raise StateError(f"the state's position is outside of the epoch: expected 0 to {length}, found {position}")
    return position
