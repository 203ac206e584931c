"""What a loader's state holds, and whether it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from largeds_native.errors import StateError
from largeds_native.loading.cursor import Cursor, Progress

VERSION = 1
MISMATCHES = {
    "store": "was taken with another store",
    "order": "was taken with another order, seed, or indices",
    "seed": "was taken with another seed",
}


@dataclass(frozen=True)
class Identity:
    """What must be the same for a state to fit: the seed, and the fingerprints of the store and of the order."""

    seed: int
    store: int
    order: int


def state_of(identity: Identity, cursor: Cursor) -> dict[str, int]:
    """Integers only: where the next batch begins, and what it must be the same for."""
    epoch, progress = cursor.at
    return {"version": VERSION, "epoch": epoch, **progress._asdict(), **asdict(identity)}


def cursor_of(state: dict[str, Any], identity: Identity, length: int | None) -> Cursor:
    """Where the state stands. `length`: of the epoch; None where it is not known.

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
    if not isinstance(epoch, int) or epoch < 0:
        raise StateError(f"the state has no epoch: found {epoch!r}")
    return epoch


def check_position(state: dict[str, Any], length: int | None) -> int:
    """`length`: of the epoch; None where it is not known."""
    position = state.get("position")
    if not isinstance(position, int) or position < 0 or (length is not None and position > length):
        raise StateError(f"the state's position is outside of the epoch: expected 0 to {length}, found {position}")
    return position
