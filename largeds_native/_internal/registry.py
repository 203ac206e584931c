"""Functions of a higher module that a lower one offers to users, without importing it.

`store.to_hdf5` is a method, because that is where users look for it; but HDF5 is the work of `interchange`, which
stands above the store and needs it. So the package's `__init__`, which knows all modules, registers here where the
function is, and the store asks for it by name when it is called. No module imports upwards, and only those who export
load h5py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

_locations: dict[str, tuple[str, str]] = {}


def register(name: str, module: str, function: str) -> None:
    _locations[name] = module, function


def registered(name: str) -> Callable[..., Any]:
    module, function = _locations[name]
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
