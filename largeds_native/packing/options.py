"""The options of a pack that determine the written bytes, and their checks."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from largeds_native._internal.arrays import IMAGE_DTYPES, MAX_CHANNELS, ValueSpec
from largeds_native.errors import ArgumentError
from largeds_native.store.format.manifest import LAYOUTS
from largeds_native.transform import Augment, ImageTransform
from largeds_native.transform.image_transform import CROP, RESIZE, choice, flag, integer

CODECS = ("raw", "jpeg")
QUALITY: Final = type(RESIZE)(95)  # differs from the same number passed by a caller
TRANSFORM = tuple(field.name for field in dataclasses.fields(ImageTransform))


@dataclass(frozen=True)
class PackOptions:
    """How images are transformed, and how their rows are stored.

    values: where images are arrays whose values are kept as they are, see `kept_values`; else they become the 8-bit
    colours, or grey, of transform.mode. `dtype_given`: whether the caller has chosen the dtype.
    """

    transform: ImageTransform
    dtype: str
    layout: str
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    variants: int
    augment: Augment | None
    seed: int
    shuffle: int | None
    shard_bytes: int
    codec: str = "raw"
    quality: int | None = None  # of a JPEG store, as restarts
    restarts: bool = False
    values: ValueSpec | None = None
    dtype_given: bool = True

    @classmethod
    def checked(cls, **given: Any) -> PackOptions:
        """From the arguments of `pack`; raises ArgumentError for an invalid one."""
        # a manifest lacks them where they have these values
        given = {"sixteen_bit": None, "codec": "raw", "quality": QUALITY, "restarts": False, "channels": None} | given
        codec = choice("codec", given["codec"], CODECS)
        if codec == "jpeg":
            given = _jpeg_arguments(given)
        transform = ImageTransform(**{name: given[name] for name in TRANSFORM})
        dtype = _dtype(given["dtype"])
        kept = given["channels"]
        mean, std = _mean_std(given["mean"], given["std"], transform.channels, dtype)
        variants = integer("variants", given["variants"], 1, 1 << 16)
        augment = _augment(given["augment"], variants)
        seed = integer("seed", given["seed"], 0, (1 << 63) - 1)
        return cls(
            transform=transform,
            dtype=dtype,
            layout=choice("layout", given["layout"], LAYOUTS),
            mean=mean,
            std=std,
            variants=variants,
            augment=augment,
            seed=seed if augment else 0,  # without an augment, nothing is drawn
            shuffle=None if given["shuffle"] is None else integer("shuffle", given["shuffle"], 0, (1 << 63) - 1),
            shard_bytes=integer("shard_bytes", given["shard_bytes"], 1, 1 << 50),
            codec=codec,
            quality=_quality(given["quality"], codec),
            restarts=_restarts(given["restarts"], codec),
            values=None if kept is None else ValueSpec(np.dtype(dtype), integer("channels", kept, 1, MAX_CHANNELS)),
            dtype_given=given["dtype"] is not None,
        )

    @property
    def channels(self) -> int:
        return self.transform.channels if self.values is None else self.values.channels

    def stored_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the stored rows of decoded images of `size`. ArgumentError if a crop does not fit."""
        return size if self.augment is None else self.augment.core().output_size(*size)

    def to_json(self) -> dict[str, Any]:
        """For the manifest: a flat dict with the names of `pack`'s arguments."""
        tree = dataclasses.asdict(self)
        del tree["dtype_given"], tree["values"]
        if self.values is not None:
            tree["channels"] = self.values.channels
        if self.augment is not None:
            tree["augment"] = self.augment.to_json()
        plain: dict[str, Any] = json.loads(json.dumps(tree.pop("transform") | tree))
        if plain["sixteen_bit"] is None:  # as in the manifests from before there was a choice
            del plain["sixteen_bit"]
        if self.codec == "raw":
            for name in ("codec", "quality", "restarts"):
                del plain[name]
        return plain


def _jpeg_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a pack of JPEG rows, with the defaults of raw rows replaced. ArgumentError for what can't be."""
    resize, crop = given["resize"], given["crop"]
    if crop is not CROP and crop is not None:
        raise ArgumentError(
            f"crop={crop!r}: JPEG rows are whole images, and the loader crops them, as by "
            "Augment(resize=256, center_crop=224): leave crop out, or pack with codec='raw'"
        )
    if resize is not None and (isinstance(resize, bool) or not hasattr(resize, "__index__")):
        raise ArgumentError(
            f"resize={resize!r}: JPEG rows keep their ratio of height and width: expected the longest shorter side, a "
            "whole number, or None to keep every size; the loader resizes to one size"
        )
    for name, only, instead in (
        ("dtype", "uint8", "JPEG rows have 8 bits a channel, and the loader makes floats of them"),
        ("mean", None, "JPEG rows are not normalised: pass mean to the Loader"),
        ("std", None, "JPEG rows are not normalised: pass std to the Loader"),
        ("augment", None, "JPEG rows are whole images: pass augment to the Loader, which draws anew in each epoch"),
        ("variants", 1, "JPEG rows are whole images: pass augment to the Loader, which draws anew in each epoch"),
        ("decode", "exact", "JPEG rows are decoded when loading: pass decode to the Loader"),
    ):
        value = given[name] if name != "dtype" else _dtype(given[name])
        if value != only:
            raise ArgumentError(f"{name}={given[name]!r} with codec='jpeg': {instead}, or pack with codec='raw'")
    longest = None if resize is None or resize is RESIZE else operator.index(resize)
    return {**given, "resize": longest, "crop": None}


def _quality(value: Any, codec: str) -> int | None:
    if codec == "jpeg":
        return integer("quality", value, 1, 100)
    if value is not QUALITY:
        raise ArgumentError(f"quality={value!r}: raw rows are not encoded: leave it out, or pack with codec='jpeg'")
    return None


def _restarts(value: Any, codec: str) -> bool:
    if flag("restarts", value) and codec == "raw":
        raise ArgumentError("restarts=True: raw rows have no restart markers: leave it out, or pack with codec='jpeg'")
    return bool(value)


def _augment(value: Any, variants: int) -> Augment | None:
    """From an Augment, or from its form in `to_json`."""
    if isinstance(value, Mapping):
        kwargs: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in value.items()}
        value = Augment(**kwargs)
    if value is not None and not isinstance(value, Augment):
        raise ArgumentError(f"augment: expected a largeds_native.Augment or None, found {value!r}")
    if value is None and variants != 1:
        raise ArgumentError(f"variants={variants} needs an augment: without one, all variants would be equal")
    return value


def _dtype(value: Any) -> str:
    if value is None:
        return "uint8"
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
        raise ArgumentError("expected mean and std together, found only one")
    if not dtype.startswith("float"):
        raise ArgumentError("mean and std are applied when packing floats only: pass dtype='float16' or 'float32', "
                            "or normalise when loading")  # fmt: skip
    result = []
    for name, values in (("mean", mean), ("std", std)):
        floats = tuple(float(v) for v in values)
        if len(floats) != channels or not all(math.isfinite(v) for v in floats) or (name == "std" and min(floats) <= 0):
            sign = "positive " if name == "std" else "finite "
            raise ArgumentError(f"{name}: expected {channels} {sign}numbers in [0, 1] units, found {values!r}")
        result.append(floats)
    return result[0], result[1]
