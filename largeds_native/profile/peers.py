"""Common alternatives for the same work, as in tutorials, with which the demo and the benchmarks compare.

Everything is at module level, because DataLoader's workers may be spawned.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224


class PixelTensor:
    """A PIL image as uint8 (C, H, W)."""

    def __call__(self, image: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def image_folder(folder: Path, *, normalised: bool) -> Dataset[Any]:
    """torchvision's ImageFolder with the usual transforms, to uint8 or to normalised float32."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    last = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)] if normalised else [PixelTensor()]
    images: Dataset[Any] = ImageFolder(
        str(folder), transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIDE), *last])
    )
    return images


class _NormalisedRows(Dataset[Any]):
    """Items are single images, normalised in the worker."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._mean = torch.tensor(MEAN).view(3, 1, 1)
        self._std = torch.tensor(STD).view(3, 1, 1)
        self._images: Any = None
        self._labels: Any = None

    def _open(self) -> None:
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self._images is None:  # opened in the worker, as HDF5 handles and mappings should not be sent to it
            self._open()
        image = torch.from_numpy(np.array(self._images[index])).float().div_(255).sub_(self._mean).div_(self._std)
        return image, int(self._labels[index])

    def __len__(self) -> int:
        if self._labels is None:
            self._open()
        n = len(self._labels)
        self._images = self._labels = None
        return n


class HDF5Rows(_NormalisedRows):
    """The HDF5Dataset of tutorials."""

    def _open(self) -> None:
        file = h5py.File(self.path, "r")
        self._images, self._labels = file["data"], file["labels"]


class MemmapRows(_NormalisedRows):
    """An image np.memmap with labels in label.npy."""

    def _open(self) -> None:
        self._images = np.load(self.path, mmap_mode="r")
        self._labels = np.load(Path(self.path).with_name("label.npy"))


def loader(dataset: Dataset[Any], workers: int, batch_size: int = 256, shuffle: bool = True) -> DataLoader[Any]:
    """A DataLoader with the usual options: persistent workers, two batches prefetched per worker."""
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def count(batches: Iterable[Any]) -> int:
    """Iterates over the batches and reads a value of each; returns the number of images."""
    images = 0
    for batch, _ in batches:
        images += len(batch)
        float(batch[(0,) * batch.dim()])
    return images


def pack_memmap(folder: Path, out: Path, workers: int) -> int:
    """Packs by ImageFolder and DataLoader into a .npy file."""
    images = image_folder(folder, normalised=False)
    n = len(images)  # type: ignore[arg-type]
    array = np.lib.format.open_memmap(out, "w+", np.uint8, (n, 3, SIDE, SIDE))
    labels = np.empty(n, np.int64)
    done = 0
    for batch, targets in DataLoader(images, 64, num_workers=workers):
        array[done : done + len(batch)] = batch.numpy()
        labels[done : done + len(batch)] = targets.numpy()
        done += len(batch)
    array.flush()
    np.save(out.with_name("label.npy"), labels)
    return done


def pack_hdf5(folder: Path, out: Path, workers: int) -> int:
    """Packs by ImageFolder and DataLoader into an HDF5 file with one image per chunk."""
    images = image_folder(folder, normalised=False)
    n, done = len(images), 0  # type: ignore[arg-type]
    with h5py.File(out, "w") as file:
        data = file.create_dataset("data", (n, 3, SIDE, SIDE), "u1", chunks=(1, 3, SIDE, SIDE))
        labels = file.create_dataset("labels", (n,), "i8")
        for batch, targets in DataLoader(images, 64, num_workers=workers):
            data[done : done + len(batch)] = batch.numpy()
            labels[done : done + len(batch)] = targets.numpy()
            done += len(batch)
    return done
