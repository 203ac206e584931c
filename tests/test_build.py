"""Errors of the build say what was expected, what was found, and what to type."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from largeds_native import _C

ROOT = Path(__file__).parent.parent
JPEG_HEADERS = ("jpeglib.h", "jconfig.h", "jmorecfg.h")
TEXT: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 120}


def script(path: Path, body: str) -> Path:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


# A compiler that takes every program, and knows the version of libjpeg-turbo that a test says.
GOOD = """
program=$(cat)
case "$* $program" in
  *--version*) echo "g++ (GCC) 9.4.0"; exit 0 ;;
  *-E*) echo "{jpeg}"; exit 0 ;;
esac
"""


def build(folder: Path, compiler: str | Path, **environment: str) -> str:
    """The error of `setup.py build_ext` for an unsuitable compiler."""
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(folder)],
        cwd=ROOT,
        env={**os.environ, "CXX": str(compiler), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_no_compiler(tmp_path: Path) -> None:
    said = build(tmp_path, "c++-of-nowhere")
    assert "expected a C++ compiler, found no c++-of-nowhere.\nType: apt-get install g++" in said


def test_a_compiler_without_cxx20(tmp_path: Path) -> None:
    refuse = 'case "$program" in *bit_cast*) echo "<stdin>:3:10: fatal error: bit: No such file" >&2; exit 1 ;; esac\n'
    compiler = script(tmp_path / "c++", GOOD + refuse)
    said = build(tmp_path, compiler)
    assert f"expected a compiler for C++20 (GCC 11, clang 15, or newer), found {compiler}: g++ (GCC) 9.4.0, " in said
    assert "which says: <stdin>:3:10: fatal error: bit: No such file.\nType: apt-get install g++-12" in said
    assert "CXX=g++-12" in said


def test_a_missing_header_names_its_package(tmp_path: Path) -> None:
    compiler = script(tmp_path / "c++", GOOD + 'echo "$program" | grep -q -e jpeglib.h -e xxhash.h && exit 1\nexit 0\n')
    assert "Type: apt-get install libjpeg-dev libxxhash-dev" in build(tmp_path, compiler)


def test_another_libjpeg(tmp_path: Path) -> None:
    """The preprocessor does not change a name that is not a macro."""
    compiler = script(tmp_path / "c++", GOOD.format(jpeg="LIBJPEG_TURBO_VERSION"))
    assert "expected libjpeg-turbo, found the jpeglib.h of another libjpeg" in build(tmp_path, compiler)


def test_a_wheel_needs_the_libjpeg_turbo_of_pillow(tmp_path: Path) -> None:
    compiler = script(tmp_path / "c++", GOOD.format(jpeg="2.1.5"))
    said = build(tmp_path, compiler, LARGEDS_WHEEL="1")
    assert "a wheel carries libjpeg-turbo 3 or newer, as Pillow's wheels do; found 2.1.5.\nType: make wheel" in said


def test_the_codecs_compile_for_the_abi_of_libjpeg_8(tmp_path: Path) -> None:
    """Ubuntu's libjpeg-turbo has it. Its error codes are other numbers, and its structs have other fields."""
    find = subprocess.run(["c++", "-M", "-xc++", "-"], input="#include <cstdio>\n#include <jpeglib.h>", **TEXT)
    headers = {name: Path(path) for path in find.stdout.split() if (name := Path(path).name) in JPEG_HEADERS}
    for name, path in {**headers, "jerror.h": headers["jpeglib.h"].with_name("jerror.h")}.items():
        version = re.sub(r"(#define\s+JPEG_LIB_VERSION)\s+\d+", r"\1 80", path.read_text())
        (tmp_path / name).write_text(version)
    sources = sorted(path for path in (ROOT / "csrc" / "codec").glob("*.cpp") if path.name.startswith(("jpeg", "huff")))
    command = ["c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Werror", f"-I{tmp_path}", f"-I{ROOT / 'csrc'}"]
    assert subprocess.run([*command, *map(str, sources)], **TEXT).stderr == ""
    check = '#include "codec/libjpeg.h"\nstatic_assert(JPEG_LIB_VERSION == 80 && JERR_OUT_OF_MEMORY == 56);'
    assert subprocess.run([*command, "-xc++", "-"], input=check, **TEXT).stderr == ""
    including = [path.name for path in (ROOT / "csrc").rglob("*.*") if "#include <jerror.h>" in path.read_text()]
    assert including == ["libjpeg.h"]  # elsewhere it may come before the version is known


def test_the_core_has_no_streams() -> None:
    """With two C++ runtimes in a process, where a compiler links its own statically, one that prints a number ends it:
    the runtimes share the identities of the parts of a locale."""
    assert not re.findall(rb"_ZNS[oi]\w*|_ZSt\w*stream\w*|_ZNSt6locale\w*", Path(_C.__file__).read_bytes())


def test_a_loaded_library_of_the_same_name_is_not_used(tmp_path: Path) -> None:
    """torchvision 0.19, for torch 2.4, has a libjpeg.so.62 that is too old."""
    listed = subprocess.run(["ldd", _C.__file__], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"/(lib(?:jpeg|png|webp)\S*) \(", listed)
    assert len(names) >= 4, listed
    for name in names:
        command = ["c++", "-shared", "-x", "c++", "/dev/null", f"-Wl,-soname,{name}", "-o", str(tmp_path / name)]
        subprocess.run(command, check=True)
    program = (
        f"import ctypes; others = [ctypes.CDLL('{tmp_path}/' + name) for name in {names}]\n"
        "from largeds_native import _C; print(_C.codec_versions()['libpng'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == _C.codec_versions()["libpng"], done.stderr


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH without installed packages, with an ordinary user."""
    for name in ("sh", "grep", "echo"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    script(tmp_path / "dpkg-query", "exit 1\n")
    script(tmp_path / "id", "echo 1000\n")
    return tmp_path


def system_packages(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "system-packages"), "g++", "libpng-dev"]
    return subprocess.run(command, env={"PATH": str(path)}, capture_output=True, text=True, timeout=60)


def test_without_permission_the_command_to_type_is_printed(bare_path: Path) -> None:
    script(bare_path / "apt-get", "echo must not run; exit 1\n")
    done = system_packages(bare_path)
    assert done.returncode == 1
    assert "sudo apt-get install --no-install-recommends -y g++ libpng-dev" in done.stderr
    assert "must not run" not in done.stdout


def test_with_permission_they_are_installed(bare_path: Path) -> None:
    script(bare_path / "id", "echo 0\n")
    script(bare_path / "apt-get", f'echo "$@" >> {bare_path}/log\n')
    done = system_packages(bare_path)
    assert done.returncode == 0, done.stderr
    assert "install --no-install-recommends -y -qq g++ libpng-dev" in (bare_path / "log").read_text()


def test_without_apt_get_they_are_listed(bare_path: Path) -> None:
    done = system_packages(bare_path)
    assert done.returncode == 1
    assert "g++ libpng-dev" in done.stderr


def test_requirements_are_only_lower_bounds() -> None:
    """Installing it does not change the installed torch, torchvision and numpy."""
    asked = [line for line in importlib.metadata.requires("largeds-native") or [] if "extra ==" not in line]
    assert "torch>=2.4" in asked
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in asked), asked
