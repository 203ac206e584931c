"""The files of torch.distributed.checkpoint: written by it, and read by it without running code from them.

Note [Metadata]
torch's `.metadata` is a pickle, and values other than tensors would be unpickled too. So only tensors are given to
torch; its metadata is read by an unpickler that knows just the classes of the metadata; and before anything is loaded,
each tensor's entry must be of a tensor, of the dtype and shape that run.pt names, in a file that run.pt lists.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from largeds_native.errors import StateError

METADATA = ".metadata"
_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
_CLASSES = {
    "Metadata",
    "TensorStorageMetadata",
    "BytesStorageMetadata",
    "TensorProperties",
    "ChunkStorageMetadata",
    "MetadataIndex",
    "StorageMeta",
    "_MEM_FORMAT_ENCODING",
    "_StorageInfo",
}
_PATHS = {(module, name) for module in ("pathlib", "pathlib._local") for name in ("Path", "PosixPath", "PurePosixPath")}
_GLOBALS = {("torch", "Size"), ("torch.serialization", "_get_layout"), *_PATHS}


def write(folder: Path, tensors: dict[str, Tensor], group: Any) -> str:
    """All ranks write their parts into the folder; what went wrong, or ""."""
    try:
        save(tensors, storage_writer=FileSystemWriter(folder), process_group=group)
    except (Exception, CheckpointException) as error:  # the latter holds those of all ranks, and is no Exception
        return str(error) or type(error).__name__
    return ""


def read(folder: Path, wanted: dict[str, Tensor], known: set[str]) -> None:
    """Fill the tensors, or this rank's parts of them, from the folder's files, of which `known` are the names.

    Raises StateError for files that are damaged, or not what is expected.
    """
    try:
        reader = _Reader(folder, known)
        metadata = reader.read_metadata()
        _check(metadata, wanted)
        _read(reader, metadata, wanted)
    except MemoryError:
        raise
    except Exception as error:  # of torch, for anything that is not as it writes it
        raise StateError(f"{folder}: not a complete checkpoint: {type(error).__name__}: {error}") from error


def _read(reader: FileSystemReader, metadata: Any, wanted: dict[str, Tensor]) -> None:
    """What torch's own `load` does, on this rank alone: nothing is sent, so a rank that fails leaves nobody waiting."""
    planner = _Planner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(wanted), metadata, True)
    reader.set_up_storage_reader(metadata, True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()


def _check(metadata: Any, wanted: dict[str, Tensor]) -> None:
    for name, tensor in wanted.items():
        entry = metadata.state_dict_metadata.get(name)
        size, dtype = getattr(entry, "size", None), getattr(getattr(entry, "properties", None), "dtype", None)
        if type(entry).__name__ != "TensorStorageMetadata" or size != tensor.shape or dtype != tensor.dtype:
            raise StateError(
                f"expected {name} to be {tuple(tensor.shape)} of {tensor.dtype}, found {type(entry).__name__} "
                f"{size} of {dtype} in {METADATA}"
            )


class _Planner(DefaultLoadPlanner):
    def load_bytes(self, read_item: Any, value: Any) -> NoReturn:
        """Torch would unpickle them."""
        raise StateError("expected only tensors in the files of a checkpoint, found bytes")


class _Reader(FileSystemReader):
    """Reads the metadata without running code from it, and only files that are known. See Note [Metadata]."""

    def __init__(self, folder: Path, known: set[str]) -> None:
        super().__init__(folder)
        self._folder, self._known = folder, known

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        with open(self._folder / METADATA, "rb") as file:
            metadata = _MetadataUnpickler(file).load()
        for info in metadata.storage_data.values():
            if info.relative_path not in self._known or getattr(info, "transform_descriptors", None):
                raise StateError(f"{METADATA} names the file {info.relative_path!r}, which is not the checkpoint's")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module in _MODULES and name in _CLASSES) or (module, name) in _GLOBALS:
            return super().find_class(module, name)
        dtype = getattr(torch, name, None) if module == "torch" and "." not in name else None
        if isinstance(dtype, torch.dtype):
            return dtype
        raise StateError(f"expected only the classes of torch's metadata in {METADATA}, found {module}.{name}")
