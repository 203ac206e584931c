"""Options -> the core's RowSpec, and the words of its augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from largeds_native.packing.options import Options

if TYPE_CHECKING:
    from largeds_native import _C


def row_spec(options: Options, size: tuple[int, int]) -> _C.RowSpec:
    """`size`: (height, width) of the decoded images."""
    from largeds_native import _C

    resize_h, resize_w = options.resize or (0, 0)
    crop_h, crop_w = options.crop or (0, 0)
    return _C.RowSpec(
        resize_h=resize_h,
        resize_w=resize_w,
        crop_h=crop_h,
        crop_w=crop_w,
        out_h=size[0],
        out_w=size[1],
        planar=options.layout == "CHW",
        filter=options.interpolation,
        antialias=options.antialias,
        scaled=options.decode == "scaled",
        channels=options.channels,
        exif_orientation=options.exif_orientation,
        keep_truncated=options.truncated == "keep",
        max_pixels=options.max_pixels,
    )


def augment_words(options: Options, size: tuple[int, int]) -> dict[str, Any] | None:
    """How versions are made of decoded images of (height, width) `size`, as `_C.Gather` takes it; None for nothing.

    Raises ArgumentError when a crop does not fit.
    """
    if options.augment is None:
        return None
    from largeds_native import _C

    planar = options.layout == "CHW"
    words = {
        "channels": options.channels,
        "height": size[0],
        "width": size[1],
        "planar_rows": planar,
        "planar_out": planar,
        "out_type": "uint8",
        **options.augment.words(),
    }
    _C.check_sample(**words)
    return words


def stored_size(options: Options, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the rows that decoded images of `size` become."""
    words = augment_words(options, size) or {}
    return words.get("out_height", size[0]), words.get("out_width", size[1])
