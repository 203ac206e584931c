"""The position of a run in its loader, from which a resumed run continues.

A loader with `state_dict()` and `load_state_dict()` (largeds_native.Loader, torchdata's StatefulDataLoader) keeps its
own position. With any other, such as torch's DataLoader, a resumed run first restores the random state of the start of
the epoch, from which the loader draws its shuffle, and then fetches the batches already seen and discards them. The
workers of a DataLoader with `persistent_workers` go on with their random states from epoch to epoch, which nobody can
read: a run resumed after its first epoch draws other numbers in them, and a warning says so.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from largeds_native.errors import StateError
from largeds_native.loading import Loader
from largeds_native.loading.torch_samplers import nested, set_epoch
from largeds_native.trainer.random_state import RandomState


class Position:
    """Counts the batches taken from one loader, and the seconds spent waiting for them."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader: Any = loader
        self.stateful = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
        self.batches = 0
        self.waited = 0.0
        self.in_epoch = False  # False: at the start of the next epoch, and `batches` doesn't count
        self._start: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None
        self._loaded = False  # since the last `epoch()`

    def epoch(self, number: int) -> Iterator[Any]:
        """The batches of this epoch; after `load_state_dict`, the rest of the one that was interrupted."""
        if not self.stateful:
            set_epoch(self.loader, number)
        if self._loaded and number > 0 and not self.stateful:
            _warn_of_workers(self.loader)
        self._loaded = False
        resumed, self._resumed = self._resumed, None
        self.batches = 0 if resumed is None else resumed["batches"]
        if resumed is not None and not self.stateful:
            RandomState.from_state_dict(resumed["start"]["random"]).restore()
            self._set_generators(resumed["start"]["generators"])
        self._remember_start()
        iterator = iter(self.loader)
        if resumed is not None:
            if not self.stateful:
                self._skip(iterator)
            RandomState.from_state_dict(resumed["now"]).restore()
        return self._count(iterator)

    def _skip(self, iterator: Iterator[Any]) -> None:
        end = object()
        for seen in range(self.batches):
            if next(iterator, end) is end:
                raise StateError(f"the checkpoint was taken after {self.batches} batches, this loader has only {seen}")

    def _count(self, iterator: Iterator[Any]) -> Iterator[Any]:
        while True:
            before = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - before
            self.batches += 1
            yield batch
            del batch  # frees its memory before the next one is fetched

    def state_dict(self) -> dict[str, Any]:
        """The position after the batches taken so far, or at the start of the next epoch."""
        state: dict[str, Any] = {
            "in_epoch": self.in_epoch,
            "batches": self.batches if self.in_epoch else 0,
            "now": RandomState.now().state_dict(),
        }
        if self.stateful:
            state["loader"] = self.loader.state_dict()
        else:
            state["generators"] = [generator.get_state() for generator in self._generators()]
            state["start"] = self._start if self.in_epoch else None
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next `epoch()` continue from this state."""
        if self.stateful != ("loader" in state):
            raise StateError("the checkpoint belongs to another kind of loader: only one of the two has a state_dict")
        if self.stateful:
            self.loader.load_state_dict(state["loader"])
        self.in_epoch, self._loaded = state["in_epoch"], True
        if self.in_epoch:
            self._resumed = state
        else:
            RandomState.from_state_dict(state["now"]).restore()
            self._set_generators(state.get("generators", []))

    def load_from_ranks(self, states: list[dict[str, Any]], rank: int, world_size: int) -> None:
        """Continue from the states of another number of ranks: the next batches are of the samples that none of them
        has seen. That needs a loader whose position counts the samples of all ranks, or the start of an epoch."""
        state = states[rank % len(states)]
        counts = isinstance(self.loader, Loader) and self.loader.world_size is not None
        if state["in_epoch"] and not (counts and all(other.get("loader") == state["loader"] for other in states)):
            raise StateError(
                "the position in the epoch is each rank's own, and can't be shared out over other ranks: use a "
                "largeds_native.Loader without a sampler, resume with as many ranks, or from an epoch's end"
            )
        self.load_state_dict(state)
        now = RandomState.from_state_dict(state["now"])
        if rank >= len(states):  # or it would draw the same numbers as another rank
            now = now.another(rank)
            now.restore()
        if self._resumed is not None:
            self._resumed = {**state, "now": now.state_dict()}

    def _remember_start(self) -> None:
        if not self.stateful:
            generators = [generator.get_state() for generator in self._generators()]
            self._start = {"random": RandomState.now().state_dict(), "generators": generators}

    def _generators(self) -> list[torch.Generator]:
        """The loader's and its samplers' own generators, each once."""
        found = [getattr(part, "generator", None) for part in nested(self.loader)]
        return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())

    def _set_generators(self, states: list[Any]) -> None:
        for generator, state in zip(self._generators(), states, strict=False):
            generator.set_state(state)


def _warn_of_workers(loader: Any) -> None:
    if getattr(loader, "persistent_workers", False):
        warnings.warn(
            "the DataLoader has persistent_workers=True, whose random states a checkpoint can't hold: where the "
            "dataset draws random numbers in them, this run is not bit-identical to one that was not stopped. With "
            "persistent_workers=False it is",
            stacklevel=5,
        )
