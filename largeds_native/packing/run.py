"""Runs a whole pack: the shards that are not there yet, then the store."""

from __future__ import annotations

from largeds_native.errors import ArgumentError
from largeds_native.packing.finish_store import finish_store
from largeds_native.packing.local_run import pack_here
from largeds_native.packing.pack_plan import Plan
from largeds_native.packing.resume import is_store
from largeds_native.store import PackedStore


def run(plan: Plan, progress: bool, engine: str | None = None, address: str | None = None) -> PackedStore:
    """Implements `largeds_native.pack`, after its arguments were checked. `address`: of a Ray cluster."""
    if engine not in (None, "ray"):
        raise ArgumentError(f"engine: expected 'ray' or None, found {engine!r}")
    times = None
    with plan.naming():
        if not is_store(plan.out):
            if engine == "ray":
                from largeds_native.packing.ray_run import pack_on_ray

                times = pack_on_ray(plan, progress, address)
            else:
                times = pack_here(plan, None, progress)
        return finish_store(plan, times, progress)
