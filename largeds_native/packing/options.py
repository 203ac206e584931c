"""The options of a pack that decide its bytes, checked."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from largeds_native.errors import ArgumentError
from largeds_native.store.format.manifest import IMAGE_DTYPES, LAYOUTS
from largeds_native.transform import Augment

INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")
MAX_SIDE = 1 << 16

Floats = tuple[float, ...]


@dataclass(frozen=True)
class Options:
    """`resize` and `crop` are None or (height, width); a width of 0 in `resize` makes the height the shorter side."""

    resize: tuple[int, int] | None
    crop: tuple[int, int] | None
    interpolation: str
    antialias: bool
    decode: str
    mode: str
    exif_orientation: bool
    dtype: str
    layout: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    variants: int
    augment: Augment | None
    seed: int
    shuffle: int | None
    shard_bytes: int
    truncated: str
    max_pixels: int

    @classmethod
    def checked(cls, **given: Any) -> Options:
        """From the arguments of `pack`; ArgumentError says what was expected and what was found."""
        channels = 3 if _choice("mode", given["mode"], ("RGB", "L")) == "RGB" else 1
        dtype = _dtype(given["dtype"])
        mean, std = _mean_std(given["mean"], given["std"], channels, dtype)
        variants = _integer("variants", given["variants"], 1, 1 << 16)
        augment = _augment(given["augment"], variants)
        seed = _integer("seed", given["seed"], 0, (1 << 63) - 1)
        return cls(
            resize=_resize(given["resize"]),
            crop=_size("crop", given["crop"]),
            interpolation=_choice("interpolation", given["interpolation"], INTERPOLATIONS),
            antialias=_flag("antialias", given["antialias"]),
            decode=_choice("decode", given["decode"], ("exact", "scaled")),
            mode=given["mode"],
            exif_orientation=_flag("exif_orientation", given["exif_orientation"]),
            dtype=dtype,
            layout=_choice("layout", given["layout"], LAYOUTS),
            mean=mean,
            std=std,
            variants=variants,
            augment=augment,
            seed=seed if augment else 0,  # otherwise nothing is drawn
            shuffle=None if given["shuffle"] is None else _integer("shuffle", given["shuffle"], 0, (1 << 63) - 1),
            shard_bytes=_integer("shard_bytes", given["shard_bytes"], 1, 1 << 50),
            truncated=_choice("truncated", given["truncated"], ("error", "keep")),
            max_pixels=_integer("max_pixels", given["max_pixels"], 1, 1 << 40),
        )

    @property
    def channels(self) -> int:
        return 3 if self.mode == "RGB" else 1

    def fixed_size(self) -> tuple[int, int] | None:
        """(height, width) of every decoded image, or None when it depends on the images."""
        if self.crop is not None:
            return self.crop
        if self.resize is not None and self.resize[1]:
            return self.resize
        return None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        tree = dataclasses.asdict(self)
        if self.resize is not None and not self.resize[1]:
            tree["resize"] = self.resize[0]
        plain: dict[str, Any] = json.loads(json.dumps(tree))
        return plain


def _augment(value: Any, variants: int) -> Augment | None:
    """An Augment, or what `to_json` made of it."""
    if isinstance(value, Mapping):
        words: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        value = Augment(**words)
    if value is not None and not isinstance(value, Augment):
        raise ArgumentError(f"augment: expected a largeds_native.Augment or None, found {value!r}")
    if value is None and variants != 1:
        raise ArgumentError(f"variants={variants} needs an augment: without one they would all be the same")
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise ArgumentError(f"{name}: expected a whole number from {low} to {high}, found {value!r}")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name}: expected True or False, found {value!r}")
    return bool(value)


def _choice(name: str, value: Any, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ArgumentError(f"{name}: expected one of {', '.join(choices)}, found {value!r}")
    return value


def _size(name: str, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ArgumentError(f"{name}: expected a side, (height, width) or None, found {value!r}")
        return _integer(name, value[0], 1, MAX_SIDE), _integer(name, value[1], 1, MAX_SIDE)
    side = _integer(name, value, 1, MAX_SIDE)
    return side, side


def _resize(value: Any) -> tuple[int, int] | None:
    if value is None or isinstance(value, (tuple, list)):
        return _size("resize", value)
    return _integer("resize", value, 1, MAX_SIDE), 0


def _dtype(value: Any) -> str:
    name = str(value).removeprefix("torch.")
    if name not in IMAGE_DTYPES:
        try:
            name = np.dtype(value).name
        except TypeError:
            name = ""
    if name not in IMAGE_DTYPES:
        raise ArgumentError(f"dtype: expected one of {', '.join(IMAGE_DTYPES)}, found {value!r}")
    return name


def _mean_std(
    mean: Any, std: Any, channels: int, dtype: str
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        raise ArgumentError("mean and std go together, found only one")
    if dtype == "uint8":
        raise ArgumentError("mean and std are baked into float stores: give dtype='float16' or 'float32', or normalise "
                            "when loading")  # fmt: skip
    result = []
    for name, values in (("mean", mean), ("std", std)):
        floats = tuple(float(v) for v in values)
        if len(floats) != channels or not all(math.isfinite(v) for v in floats) or (name == "std" and min(floats) <= 0):
            sign = "positive " if name == "std" else "finite "
            raise ArgumentError(f"{name}: expected {channels} {sign}numbers in [0, 1] units, found {values!r}")
        result.append(floats)
    return result[0], result[1]
