"""What becomes of an image's pixels: sizes, crops and flips, drawn once a sample."""

from __future__ import annotations

from largeds_native.transform.augment import Augment
from largeds_native.transform.image_transform import ImageTransform

__all__ = ["Augment", "ImageTransform"]
