"""CUDA's streams and events, and loaders to a device, where there is none: the CPU does the work at once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import largeds_native as lds
from largeds_native.loading.cuda import DeviceIterator
from largeds_native.loading.normalise import DeviceFormat, Normalise
from largeds_native.loading.pinned_rows import without_images
from largeds_native.store.gather import torch_dtype


class Done:
    """A stream or an event whose work is done."""

    def __init__(self, *_: Any, enable_timing: bool = False) -> None:
        pass

    def query(self) -> bool:
        return True

    def record(self, *_: Any) -> None:
        pass

    wait_event = synchronize = record

    def elapsed_time(self, _: Any) -> float:
        return 2.0  # milliseconds

    def __enter__(self) -> Done:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


def pretend_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "Event"):
        monkeypatch.setattr(torch.cuda, name, Done)
    monkeypatch.setattr(torch.cuda, "current_stream", Done)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", Done.record)


def pretended_loader(
    store: Any, size: int, *, dtype: torch.dtype = torch.float32, pin_rows: bool = False, **kwargs: Any
) -> Any:
    """A Loader of the CPU that does what one of a CUDA device does: it sends the rows' values, and normalises there."""
    made = lds.Loader(store, size, dtype=dtype, **kwargs)
    stored = torch_dtype(store.dtype)
    sent = lds.Loader(store, size, dtype=stored, **{k: v for k, v in kwargs.items() if k not in ("mean", "std")})
    normalise = None
    if dtype is not stored:
        format = DeviceFormat(made._host_format.dtype, *made._host_format.scale)
        # with colours, the CPU's batches are uint8 too
        normalise = Normalise(made._device_format or format, sent.device)
    if pin_rows:
        sent._spec, sent._pin_rows = replace(sent._spec, gather=without_images(store)), True

    def source(host: Any, cursor: Any) -> DeviceIterator:
        rows = sent._row_images(sent._pinned) if pin_rows else None
        return DeviceIterator(host, cursor, sent.device, normalise, sent._coloring, torch.cuda.Stream(), rows)

    sent._source = source
    return sent


def run_interpreted(code: str) -> None:
    """Runs code in which Triton's interpreter takes the place of a device."""
    pytest.importorskip("triton")
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
