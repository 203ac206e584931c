"""Import, export and direct use of other formats: HDF5 and .npy."""

from __future__ import annotations

from largeds_native.interchange.hdf5_dataset import HDF5Dataset
from largeds_native.interchange.hdf5_export import export_hdf5
from largeds_native.interchange.hdf5_import import from_hdf5
from largeds_native.interchange.hdf5_join import join_hdf5
from largeds_native.interchange.hdf5_mapped import open_hdf5
from largeds_native.interchange.npy_mapped import open_npy

__all__ = ["HDF5Dataset", "export_hdf5", "from_hdf5", "join_hdf5", "open_hdf5", "open_npy"]
