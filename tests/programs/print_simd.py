"""Prints the instruction set of the core's kernels."""

from largeds_native import _C

print(_C.simd())
