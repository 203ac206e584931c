"""Transforms of images: decoding to a size, random crops and flips, and random changes of colour."""

from __future__ import annotations

from largeds_native.transform.augment import Augment
from largeds_native.transform.color import ColorAugment
from largeds_native.transform.image_transform import ImageTransform

__all__ = ["Augment", "ColorAugment", "ImageTransform"]
