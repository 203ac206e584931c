"""CUDA's streams and events where there is no device: the CPU does the work at once."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch


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
