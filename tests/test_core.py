"""What a person reads when the C++ core can't be loaded: what was expected, what was found, and what to type."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch

import largeds_native
from largeds_native import _core

TYPE = "pip install --no-build-isolation --force-reinstall --no-deps largeds-native"


def built_with(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    module = ModuleType("largeds_native._build")
    module.TORCH = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "largeds_native._build", module)


@pytest.fixture
def broken_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extension is there, but the dynamic linker refuses it."""
    real = importlib.import_module

    def refuse(name: str, package: str | None = None) -> ModuleType:
        if name == "largeds_native._C":
            raise ImportError("_C.so: undefined symbol: _ZN3c106Tensor")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", refuse)


def test_never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "largeds_native._build", None)  # as if the file were not there
    with pytest.raises(ImportError, match="has not been built") as caught:
        _core.load_core()
    assert TYPE in str(caught.value)
    assert "make build" in str(caught.value)


def test_never_built_seen_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """`from largeds_native import _C` gives the same sentence, not "cannot import name"."""
    monkeypatch.setitem(sys.modules, "largeds_native._build", None)
    monkeypatch.delitem(vars(largeds_native), "_C", raising=False)
    with pytest.raises(ImportError, match="has not been built"):
        from largeds_native import _C  # noqa: F401


def test_built_with_another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, "1.13.1+cu117")
    with pytest.raises(ImportError, match=r"built with torch 1\.13\.1\+cu117, found torch ") as caught:
        _core.load_core()
    assert str(torch.__version__) in str(caught.value)
    assert TYPE in str(caught.value)


@pytest.mark.parametrize("built", ["2.7.0", "2.7.3", "2.7.1+cpu", "2.7.0a0+git1234567"])
def test_patch_releases_and_builds_of_one_minor_version_fit(monkeypatch: pytest.MonkeyPatch, built: str) -> None:
    built_with(monkeypatch, built)
    monkeypatch.setattr(torch, "__version__", "2.7.1+cu126")
    assert _core.load_core().__name__ == "largeds_native._C"


@pytest.mark.parametrize("built", ["2.6.1", "2.70.1", "3.7.1", "2.8.0a0+git1234567"])
def test_another_minor_version_does_not(monkeypatch: pytest.MonkeyPatch, built: str) -> None:
    built_with(monkeypatch, built)
    monkeypatch.setattr(torch, "__version__", "2.7.1+cu126")
    with pytest.raises(ImportError, match=r"found torch 2\.7\.1"):
        _core.load_core()


@pytest.mark.usefixtures("broken_extension")
def test_the_extension_can_t_be_loaded() -> None:
    with pytest.raises(ImportError, match=r"can't be loaded: _C\.so: undefined symbol") as caught:
        _core.load_core()
    assert TYPE in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)
