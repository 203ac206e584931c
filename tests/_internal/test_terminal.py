"""Bars are drawn on terminals alone, and their absence is no error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from largeds_native._internal.terminal import on_terminal
from tests.builders.stores import make_labelled_store


@pytest.mark.parametrize("stderr", [None, io.StringIO(), "closed"], ids=["none", "a file", "closed"])
def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stderr: Any) -> None:
    if stderr == "closed":
        stderr = io.StringIO()
        stderr.close()
    monkeypatch.setattr("sys.stderr", stderr)
    assert not on_terminal()
    store = make_labelled_store(tmp_path, 4, progress=True)
    assert store.verify().ok
