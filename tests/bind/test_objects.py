"""What the core's objects refuse: to be used without `__init__`, or in a forked child; and a list that changes."""

from __future__ import annotations

import inspect
import io
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from largeds_native import _C
from largeds_native.errors import ArgumentError

CLASSES = [cls for _, cls in inspect.getmembers(_C, inspect.isclass)]
CALLS: dict[str, tuple[Any, ...]] = {
    "output_size": (8, 8), "read": ([0],), "will_need": ([0],), "tensor": ((2,), "uint8"), "start": ((),),
    "release": (0,), "wait": (0.0,), "submit": ([0], None, 0, 0), "run": ([0], 0, 0, None, None),
}  # fmt: skip


def use(obj: Any, name: str) -> Any:
    """Its property of this name, or what its method returns."""
    if isinstance(inspect.getattr_static(type(obj), name), property):
        return getattr(obj, name)
    return getattr(obj, name)(*CALLS.get(name, ()))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_method_takes_them(cls: Any) -> None:
    unfinished = cls.__new__(cls)
    names = [name for name in vars(cls) if name == "__len__" or not name.startswith("_")]
    for name in names:
        with pytest.raises(TypeError, match="incompatible function arguments"):
            use(unfinished, name)


def test_no_function_takes_them() -> None:
    rows, images, pool = (cls.__new__(cls) for cls in (_C.Rows, _C.ImageLayout, _C.Pool))
    with pytest.raises((TypeError, RuntimeError)):
        _C.Picture(rows, _C.ReadSpec(_C.ImageLayout(channels=3, height=8, width=8)))
    with pytest.raises(TypeError):
        _C.Picture(_C.Rows([], 192), images)
    with pytest.raises(TypeError):
        _C.Gather([_C.Picture.__new__(_C.Picture)])
    with pytest.raises((TypeError, RuntimeError)):
        _C.Prefetcher(_C.Gather.__new__(_C.Gather), [], _C.Ring(0, 1), pool)
    with pytest.raises(TypeError):
        _C.Packer(_C.RowSpec.__new__(_C.RowSpec), 1)


def is_refused(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ArgumentError as error:
        return "forked" in str(error)
    return False


def test_a_packer_in_a_forked_child() -> None:
    """The child has none of its threads, and its mutexes may be locked for ever."""
    packer = _C.Packer(_C.RowSpec(), 2)
    calls = [lambda: packer.done, packer.cancel, packer.result, lambda: packer.wait(0.0)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if all(map(is_refused, calls)) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert packer.done == 0


def test_a_list_that_changes_while_it_is_decoded() -> None:
    """Its items stay as long as the threads of the core read them."""
    spec = _C.RowSpec(resize_h=0, crop_h=0, crop_w=0, out_h=64, out_w=64)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    files: list[bytes] = []
    for _ in range(300):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    out = np.zeros((len(files), 64 * 64 * 3), np.uint8)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(_C.decode_to_rows(files, out, spec, 2)))
    thread.start()
    while files:
        files.pop()
    thread.join()
    assert [status for status, *_ in results] == ["ok"] * len(results)
    assert (out[: len(results)] == pixels.transpose(2, 0, 1).ravel()).all()
