"""Errors of loading the C++ core say what was expected, what was found, and what to type."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest
import torch

import largeds_native
from largeds_native._internal import core

TYPE = "pip install --force-reinstall --no-deps largeds-native"


def refuse(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    """Makes the import of the extension raise `error`."""
    real = importlib.import_module

    def importing(name: str, package: str | None = None) -> ModuleType:
        if name == "largeds_native._C":
            raise error
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", importing)


@pytest.fixture
def package_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of the package's, without an extension for this Python."""
    monkeypatch.setattr(core, "__file__", str(tmp_path / "_internal" / "core.py"))
    refuse(monkeypatch, ModuleNotFoundError("No module named 'largeds_native._C'", name="largeds_native._C"))
    return tmp_path


@pytest.mark.usefixtures("package_folder")
def test_never_built() -> None:
    with pytest.raises(ImportError, match="has not been built") as caught:
        core.load_core()
    assert TYPE in str(caught.value)
    assert "make build" in str(caught.value)


def test_an_installed_package_hidden_by_the_sources(package_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `pip install .` was typed, and Python is started there."""
    checkout, site = package_folder / "checkout" / "largeds_native", package_folder / "site" / "largeds_native"
    monkeypatch.setattr(core, "__file__", str(checkout / "_internal" / "core.py"))
    site.mkdir(parents=True)
    (site / f"_C{EXTENSION_SUFFIXES[0]}").touch()
    monkeypatch.setattr(sys, "path", [str(checkout.parent), str(site.parent)])
    with pytest.raises(
        ImportError, match=f"the sources in {checkout}, where nothing was built, and not {site}, which is"
    ):
        core.load_core()


@pytest.mark.usefixtures("package_folder")
def test_never_built_seen_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from largeds_native import _C` raises the same message, not "cannot import name"."""
    monkeypatch.delitem(vars(largeds_native), "_C", raising=False)
    with pytest.raises(ImportError, match="has not been built"):
        from largeds_native import _C  # noqa: F401


def test_built_for_another_python(package_folder: Path) -> None:
    (package_folder / "_C.cpython-399-x86_64-linux-gnu.so").touch()
    with pytest.raises(ImportError, match=r"built for another Python: found _C\.cpython-399-x86_64") as caught:
        core.load_core()
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]} loads _C{EXTENSION_SUFFIXES[0]}" in str(caught.value)
    assert TYPE in str(caught.value)


def test_the_extension_can_t_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exists, but the dynamic linker can't load it."""
    refuse(monkeypatch, ImportError("libwebp.so.7: cannot open shared object file"))
    with pytest.raises(ImportError, match=r"can't be loaded: libwebp\.so\.7") as caught:
        core.load_core()
    assert TYPE in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize("version", ["2.3.1+cu121", "1.13.1", "2.3.0a0+git1234567"])
def test_an_older_torch(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(ImportError, match=r"needs torch 2\.4 or newer, found torch ") as caught:
        core.load_core()
    assert version in str(caught.value)
    assert "pip install 'torch>=2.4'" in str(caught.value)


@pytest.mark.parametrize("version", ["2.4.0", "2.14.1+cu130", "2.70.1", "3.0.0", "2.8.0a0+git1234567"])
def test_any_torch_from_the_oldest_on_fits(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert core.load_core().__name__ == "largeds_native._C"


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs torch 2\.4 or newer, found none in ") as caught:
        core.load_core()
    assert "Type: pip install torch" in str(caught.value)


def test_the_extension_knows_nothing_of_torch() -> None:
    """One binary for every torch: it neither links to torch's libraries nor needs their symbols."""
    path = largeds_native._C.__file__
    assert path is not None
    text = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
    assert "libtorch" not in text
    assert "libc10" not in text
    assert b"libtorch" not in Path(path).read_bytes()
