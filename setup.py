"""Builds the C++ core as a torch extension. Everything else about the package stands in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from glob import glob

import pybind11
from setuptools import Extension, setup
from torch.utils.cpp_extension import BuildExtension

# header -> (library to link, Debian's package)
LIBRARIES = {
    "jpeglib.h": ("jpeg", "libjpeg-dev"),
    "png.h": ("png", "libpng-dev"),
    "webp/decode.h": ("webp", "libwebp-dev"),
    "webp/demux.h": ("webpdemux", "libwebp-dev"),
    "xxhash.h": (None, "libxxhash-dev"),
}


def missing_packages() -> list[str]:
    """Debian's names of the packages whose headers the compiler can't find."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    flags = shlex.split(os.environ.get("CPPFLAGS", "")) + shlex.split(os.environ.get("CFLAGS", ""))

    def compiles(source: str) -> bool:
        command = [*compiler, *flags, "-x", "c++", "-fsyntax-only", "-"]
        try:
            return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    if not compiles("int main() {}"):
        return ["g++"]
    return sorted(
        {
            package
            for header, (_, package) in LIBRARIES.items()
            if not compiles(f"#include <cstddef>\n#include <cstdio>\n#include <{header}>\n")
        }
    )


class BuildCore(BuildExtension):
    """Keeps its object files in build/core, so that a second build of any kind compiles only what changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.build_temp = os.path.join("build", "core")

    def run(self) -> None:
        if packages := missing_packages():
            sys.exit(f"largeds_native can't be built: headers are missing.\nType: apt-get install {' '.join(packages)}")
        super().run()


setup(
    ext_modules=[
        Extension(
            "largeds_native._C",
            sources=sorted(glob("csrc/*/*.cpp")),
            include_dirs=[os.path.abspath("csrc"), pybind11.get_include()],
            libraries=[library for library, _ in LIBRARIES.values() if library],
            language="c++",
            # -fno-math-errno etc. are not set: float results must not depend on flags. No -march=.
            extra_compile_args=[
                "-std=c++20",
                "-O3",
                "-g0",
                "-fvisibility=hidden",
                "-ffp-contract=off",
                "-Wall",
                "-Wextra",
            ],
        )
    ],
    cmdclass={"build_ext": BuildCore.with_options(use_ninja=True)},
)
