"""Transforms of images: decoding to a size, and random crops and flips."""

from __future__ import annotations

from largeds_native.transform.augment import Augment
from largeds_native.transform.image_transform import ImageTransform

__all__ = ["Augment", "ImageTransform"]
