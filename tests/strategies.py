"""Strategies of hypothesis for several tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st


@st.composite
def store_arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of tests.builders.stores.make_random_store."""
    n = draw(st.integers(1, 9))
    channels, height, width = draw(st.sampled_from([1, 3])), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    layout = draw(st.sampled_from(["CHW", "HWC"]))
    dtypes = st.sampled_from(["int64", "uint8", "float16", "float64", "bool", "complex64", "S5", "U3", "int16"])
    names = draw(st.lists(st.sampled_from(["label", "weight", "box", "name"]), unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    fields = {}
    for name in names:
        dtype = draw(dtypes) if name != "label" else "int64"
        extent = (n, *draw(st.sampled_from([(), (4,), (2, 2)]))) if name != "label" else (n,)
        fields[name] = rng.integers(0, 90, extent).astype(dtype)
    return {
        "n": n,
        "shape": (channels, height, width) if layout == "CHW" else (height, width, channels),
        "dtype": draw(st.sampled_from(["uint8", "float16", "float32"])),
        "layout": layout,
        "variants": draw(st.sampled_from([1, 1, 2])),
        "fields": fields,
        "classes": draw(st.sampled_from([(), ("a", "b c", "ü")])),
        "shard_rows": draw(st.integers(1, 5)),
    }
