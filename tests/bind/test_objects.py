"""Objects of the core that were made by `__new__` alone are refused: they have no value of C++."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from largeds_native import _C

CLASSES = [cls for _, cls in inspect.getmembers(_C, inspect.isclass)]
CALLS: dict[str, tuple[Any, ...]] = {
    "output_size": (8, 8), "read": ([0],), "will_need": ([0],), "tensor": ((2,), "uint8"), "start": ((),),
    "wait": (0.0,), "submit": ([0], None, 0, 0), "run": ([0], 0, 0, None, None),
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
        _C.Gather(rows, _C.ImageLayout(channels=3, height=8, width=8))
    with pytest.raises(TypeError):
        _C.Gather(_C.Rows([], 192), images)
    with pytest.raises((TypeError, RuntimeError)):
        _C.Prefetcher(_C.Gather.__new__(_C.Gather), [], _C.Ring(0, 1), pool)
    with pytest.raises(TypeError):
        _C.Packer(_C.RowSpec.__new__(_C.RowSpec), 1)
