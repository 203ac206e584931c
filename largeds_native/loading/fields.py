"""The fields that come with the images of a batch, as the C++ core reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from largeds_native._internal.arrays import has_shape_of
from largeds_native.errors import ArgumentError
from largeds_native.store import Store
from largeds_native.store.gather import dtype_name, torch_dtype
from largeds_native.transform import Augment

if TYPE_CHECKING:
    from largeds_native import _C

CoreField = tuple["_C.Rows", str, list[int]]  # a field's rows, the name of torch's dtype, the shape of one value


def field_names(store: Store, fields: Sequence[str] | str | None) -> tuple[str, ...]:
    """The names of the requested fields; None is the label, if the store has one."""
    if fields is None:
        return ("label",) if "label" in store.fields else ()
    names = (fields,) if isinstance(fields, str) else tuple(fields) if isinstance(fields, Iterable) else (fields,)
    if not all(isinstance(name, str) for name in names):
        raise ArgumentError(f"fields: expected names of fields, as ('label',), found {fields!r}")
    return names


def check_pictures(store: Store, fields: Sequence[str], views: Sequence[Augment]) -> None:
    """Raises ArgumentError for a field of pictures beside an augment that would move their images alone."""
    if all(view == Augment() for view in views) or store.metadata.varies:
        return
    for name in fields:
        spec = store.metadata.fields.get(name)
        if spec is not None and not spec.is_picture and has_shape_of(spec, store.metadata.image_size):
            raise ArgumentError(
                f"augment: field {name!r} holds pictures of the images' size, which would not be cropped and flipped "
                "with their images: load without an augment, or without this field"
            )


def check_fields(store: Store, fields: Sequence[str]) -> None:
    """Raises ArgumentError for a field that the store has not, and for a picture that comes twice."""
    for name in fields:
        if name not in store.fields:
            found = ", ".join(repr(field) for field in store.fields) or "none"
            raise ArgumentError(
                f"fields: {store.path} has no field {name!r}, its fields are: {found}. Pass fields=(...)"
            )
        if name in store.metadata.pictures and list(fields).count(name) > 1:
            raise ArgumentError(f"fields: the {store.metadata.pictures[name].role} {name!r} is given twice")


def core_field(store: Store, name: str) -> CoreField:
    values = store.field(name)
    try:
        dtype = torch_dtype(values.dtype)
    except TypeError:
        raise ArgumentError(f"fields: {name!r} has dtype {values.dtype}, which torch does not support") from None
    return store.field_rows(name), dtype_name(dtype), list(values.shape[1:])
