"""Keeps the HDF5 file argv[1] open for writing until it reads a line from stdin."""

import sys

import h5py

with h5py.File(sys.argv[1], "a"):
    print("open", flush=True)
    input()
