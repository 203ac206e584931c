"""What a loader's state holds, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeds_native.errors import StateError

if TYPE_CHECKING:
    from largeds_native.loading.loader import Loader

VERSION = 1
MEANING = {
    "store": "was taken with another store",
    "order": "was taken with another order, seed, or indices",
    "seed": "was taken with another seed",
}


def state_of(loader: Loader, epoch: int, position: int) -> dict[str, int]:
    """Integers only: where the next batch begins, and what it must be the same for."""
    return {"version": VERSION, "epoch": epoch, "position": position, **_same(loader)}


def _same(loader: Loader) -> dict[str, int]:
    return {
        "seed": loader.seed,
        "store": int(loader.store.identity, 16),
        "order": loader.plan.fingerprint,
    }


def checked_state(loader: Loader, state: dict[str, Any]) -> tuple[int, int]:
    """(epoch, position); StateError when the state is of another version, store or order."""
    if not isinstance(state, dict) or "version" not in state:
        raise StateError(f"expected the state_dict() of a Loader, found {state!r:.200}")
    if state["version"] != VERSION:
        raise StateError(f"the loader's state is of version {state['version']!r}, this release reads {VERSION}")
    for name, value in _same(loader).items():
        if state.get(name) != value:
            raise StateError(f"the loader's state {MEANING[name]}: {name} is {state.get(name)!r}, expected {value}")
    return check_epoch(state), check_position(state, loader.plan.length)


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
