"""Prints the compiler flags that csrc/bind needs, for clang-tidy."""

import sysconfig

import pybind11

folders = [pybind11.get_include(), sysconfig.get_path("include")]
print("-std=c++20", "-Icsrc", *(f"-isystem{folder}" for folder in folders))
