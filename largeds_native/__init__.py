"""Pack an image data set once, then train at memory bandwidth."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from largeds_native import errors as errors
from largeds_native._internal.registry import register
from largeds_native.errors import ArgumentError as ArgumentError
from largeds_native.errors import DecodeError as DecodeError
from largeds_native.errors import DeviceError as DeviceError
from largeds_native.errors import LargedsError as LargedsError
from largeds_native.errors import MissingObjectError as MissingObjectError
from largeds_native.errors import NonFiniteError as NonFiniteError
from largeds_native.errors import PackError as PackError
from largeds_native.errors import RowIndexError as RowIndexError
from largeds_native.errors import StateError as StateError
from largeds_native.errors import StorageError as StorageError
from largeds_native.errors import StoreError as StoreError

if TYPE_CHECKING:
    from largeds_native import interchange as interchange
    from largeds_native import loading as loading
    from largeds_native import packing as packing
    from largeds_native import sources as sources
    from largeds_native import store as store
    from largeds_native import trainer as trainer
    from largeds_native import transform as transform
    from largeds_native.interchange import HDF5Dataset as HDF5Dataset
    from largeds_native.interchange import from_hdf5 as from_hdf5
    from largeds_native.interchange import join_hdf5 as join_hdf5
    from largeds_native.loading import Loader as Loader
    from largeds_native.loading import ShuffleSampler as ShuffleSampler
    from largeds_native.loading import StoreDataset as StoreDataset
    from largeds_native.opening import open_store
    from largeds_native.packing import pack as pack
    from largeds_native.packing.decoding import decode_batch as decode_batch
    from largeds_native.store import Store as Store
    from largeds_native.store import concat as concat
    from largeds_native.store import mix as mix
    from largeds_native.store import pull as pull
    from largeds_native.store import push as push
    from largeds_native.trainer import Accumulator as Accumulator
    from largeds_native.trainer import Trainer as Trainer

    open = open_store
    __version__: str
    from largeds_native.transform import Augment as Augment
    from largeds_native.transform import ColorAugment as ColorAugment

# public name -> (module, name in it); loaded at first use, so that `import largeds_native` costs nothing
_LAZY = {
    "Accumulator": ("largeds_native.trainer", "Accumulator"),
    "Augment": ("largeds_native.transform", "Augment"),
    "ColorAugment": ("largeds_native.transform", "ColorAugment"),
    "concat": ("largeds_native.store", "concat"),
    "decode_batch": ("largeds_native.packing.decoding", "decode_batch"),
    "HDF5Dataset": ("largeds_native.interchange", "HDF5Dataset"),
    "from_hdf5": ("largeds_native.interchange", "from_hdf5"),
    "join_hdf5": ("largeds_native.interchange", "join_hdf5"),
    "mix": ("largeds_native.store", "mix"),
    "Loader": ("largeds_native.loading", "Loader"),
    "ShuffleSampler": ("largeds_native.loading", "ShuffleSampler"),
    "Store": ("largeds_native.store", "Store"),
    "StoreDataset": ("largeds_native.loading", "StoreDataset"),
    "Trainer": ("largeds_native.trainer", "Trainer"),
    "open": ("largeds_native.opening", "open_store"),
    "pull": ("largeds_native.store", "pull"),
    "push": ("largeds_native.store", "push"),
    "pack": ("largeds_native.packing", "pack"),
}
_MODULES = ("interchange", "loading", "packing", "sources", "store", "trainer", "transform")

# functions of higher modules that lower modules call
register("export_hdf5", "largeds_native.interchange", "export_hdf5")

# without `open`, which would shadow the builtin after `from largeds_native import *`
__all__ = [
    "Accumulator",
    "ArgumentError",
    "Augment",
    "ColorAugment",
    "DecodeError",
    "DeviceError",
    "HDF5Dataset",
    "LargedsError",
    "Loader",
    "MissingObjectError",
    "NonFiniteError",
    "PackError",
    "RowIndexError",
    "ShuffleSampler",
    "StateError",
    "StorageError",
    "Store",
    "StoreDataset",
    "StoreError",
    "Trainer",
    "concat",
    "decode_batch",
    "from_hdf5",
    "join_hdf5",
    "mix",
    "pack",
    "pull",
    "push",
]


def __getattr__(name: str) -> Any:
    if name == "_C":
        from largeds_native._internal.core import load_core

        value: Any = load_core()
    elif name in _MODULES:
        value = importlib.import_module(f"largeds_native.{name}")
    elif name in _LAZY:
        module, attribute = _LAZY[name]
        value = getattr(importlib.import_module(module), attribute)
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("largeds-native")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_LAZY, *_MODULES})
