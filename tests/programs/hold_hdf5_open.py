"""Holds the HDF5 file of argv[1] open for writing until a line comes on stdin."""

import sys

import h5py

with h5py.File(sys.argv[1], "a"):
    print("open", flush=True)
    input()
