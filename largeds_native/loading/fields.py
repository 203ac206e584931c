"""The fields that come with the images of a batch, as the C++ core reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from largeds_native.errors import ArgumentError
from largeds_native.store import Store
from largeds_native.store.gather import dtype_name

if TYPE_CHECKING:
    from largeds_native import _C

CoreField = tuple["_C.Rows", str, list[int]]  # a field's rows, the name of torch's dtype, the shape of one value


def field_names(store: Store, fields: Sequence[str] | str | None) -> tuple[str, ...]:
    """The names of the requested fields; None is the label, if the store has one."""
    if fields is None:
        return ("label",) if "label" in store.fields else ()
    return (fields,) if isinstance(fields, str) else tuple(fields)


def core_field(store: Store, name: str) -> CoreField:
    if name not in store.fields:
        found = ", ".join(repr(field) for field in store.fields) or "none"
        raise ArgumentError(f"fields: {store.path} has no field {name!r}, its fields are: {found}. Pass fields=(...)")
    values = store.field(name)
    try:
        dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    except TypeError:
        raise ArgumentError(f"fields: {name!r} has dtype {values.dtype}, which torch does not support") from None
    return store.field_rows(name), dtype_name(dtype), list(values.shape[1:])
