"""Prints the compiler flags that csrc/bind needs, for clang-tidy."""

import sysconfig

from torch.utils.cpp_extension import include_paths

folders = [*include_paths(), sysconfig.get_path("include")]
print("-std=c++20", "-Icsrc", "-DTORCH_EXTENSION_NAME=_C", *(f"-isystem{folder}" for folder in folders))
