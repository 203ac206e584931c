"""Options -> the core's RowSpec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from largeds_native.pack.options import Options

if TYPE_CHECKING:
    from largeds_native import _C


def row_spec(options: Options, size: tuple[int, int]) -> _C.RowSpec:
    """`size`: (height, width) of the rows."""
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
