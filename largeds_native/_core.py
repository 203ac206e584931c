"""Loads the C++ core, and says in a sentence what to type when it can't be.

`from largeds_native import _C` comes here through the package's `__getattr__`.
"""

from __future__ import annotations

import importlib
from types import ModuleType

REINSTALL = "pip install --no-build-isolation --force-reinstall --no-deps largeds-native"
TYPE = f"Type: {REINSTALL}   (in a checkout: make build)"


def load_core() -> ModuleType:
    """The extension `largeds_native._C`, after a look at torch: the two must be built for each other."""
    try:
        from largeds_native._build import TORCH as built
    except ImportError:
        raise ImportError(f"largeds_native's C++ core has not been built.\n{TYPE}") from None
    import torch  # its libraries must be in the process before the extension that links to them

    found = str(torch.__version__)
    if _series(found) != _series(built):
        raise ImportError(f"largeds_native was built with torch {built}, found torch {found}.\n{TYPE}")
    try:
        return importlib.import_module("largeds_native._C")
    except ImportError as error:
        raise ImportError(f"largeds_native's C++ core can't be loaded: {error}\n{TYPE}") from error


def _series(version: str) -> tuple[str, ...]:
    """'2.14.1+cu130' -> ('2', '14'): torch's C++ interface changes from one minor version to the next."""
    return tuple(version.split("+")[0].split(".")[:2])
