"""The keys of batches and samples that are dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from largeds_native.errors import ArgumentError

IMAGE = "image"


def keys_of(names: Any, fields: Sequence[str]) -> tuple[str, ...] | None:
    """The key of the image, and of each field: that of `names`, else its own name. None where `names` is None, so that
    batches and samples are tuples. Raises ArgumentError for a name of nothing, or two equal keys."""
    if names is None:
        return None
    if not isinstance(names, Mapping):
        raise ArgumentError(f"names: expected a dict as {{'image': 'pixel_values'}}, found {names!r:.100}")
    known = (IMAGE, *fields)
    if known.count(IMAGE) > 1:
        raise ArgumentError("names: 'image' may be the image or the field of that name: leave the field out")
    for name, key in names.items():
        if name not in known:
            raise ArgumentError(f"names: expected some of {', '.join(map(repr, known))}, found {name!r}")
        if not isinstance(key, str):
            raise ArgumentError(f"names: expected a string for {name!r}, found {key!r:.100}")
    keys = tuple(names.get(name, name) for name in known)
    if len(set(keys)) < len(keys):
        raise ArgumentError(f"names: expected a different key for each of {', '.join(map(repr, known))}, found {keys}")
    return keys
