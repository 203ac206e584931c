"""Lets a module offer a function of a higher module to users, without importing that module.

`store.to_hdf5` is a method, since users look for it there; but `interchange` implements it, and `interchange` depends
on the store. So the package's `__init__`, which may import all modules, registers the location of the function here,
and the store looks it up by name when the method is called. No module imports upwards, and h5py is loaded only to
export.
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
