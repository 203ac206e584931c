"""Loads the C++ core; if that fails, the error says what to type.

`from largeds_native import _C` calls `load_core` through the package's `__getattr__`. The core does not use torch's C++
interface: tensors are exchanged by DLPack, so that one binary works with every torch from OLDEST_TORCH on.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

OLDEST_TORCH = (2, 4)
REINSTALL = "pip install --force-reinstall --no-deps largeds-native"
TYPE = f"Type: {REINSTALL}   (in a checkout: make build)"


def load_core() -> ModuleType:
    """The extension `largeds_native._C`. Raises ImportError if it, or torch, is missing or incompatible."""
    _check_torch()
    try:
        return importlib.import_module("largeds_native._C")
    except ModuleNotFoundError:
        raise ImportError(_missing(Path(__file__).parents[1])) from None
    except ImportError as error:
        if str(error).startswith("LARGEDS_SIMD"):
            raise  # the core itself is fine, and this message says what to do
        raise ImportError(f"largeds_native's C++ core can't be loaded: {error}\n{TYPE}") from error


def _check_torch() -> None:
    oldest = ".".join(map(str, OLDEST_TORCH))
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            f"largeds_native needs torch {oldest} or newer, found none in {sys.prefix}.\nType: pip install torch"
        ) from None
    found = str(torch.__version__)
    if _release(found) < OLDEST_TORCH:
        raise ImportError(
            f"largeds_native needs torch {oldest} or newer, found torch {found}.\nType: pip install 'torch>={oldest}'"
        )


def _release(version: str) -> tuple[int, ...]:
    """'2.14.1+cu130' and '2.14.0a0+git1234567' -> (2, 14)."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


def _missing(folder: Path) -> str:
    """The reason why there is no core for this Python."""
    others = sorted(path.name for path in folder.glob("_C.*.so"))
    if not others and (installed := _installed_beside(folder)):
        return (
            f"Python imports the sources in {folder}, where nothing was built, "
            f"and not {installed}, which is installed.\n"
            f"Run Python and your scripts outside of {folder.parent}   (or type there: make build)"
        )
    if not others:
        return f"largeds_native's C++ core has not been built.\n{TYPE}"
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"largeds_native's C++ core was built for another Python: found {', '.join(others)}, and Python {version} "
        f"loads _C{EXTENSION_SUFFIXES[0]}.\n{TYPE}"
    )


def _installed_beside(folder: Path) -> Path | None:
    """Another copy of this package that has a core for this Python. In a checkout, the sources come before it: Python
    looks into the working folder, or that of the script, first."""
    copies = (Path(entry, folder.name) for entry in sys.path)
    return next((copy for copy in copies if copy != folder and (copy / f"_C{EXTENSION_SUFFIXES[0]}").exists()), None)
