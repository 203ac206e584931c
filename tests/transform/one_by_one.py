"""ColorAugment by torchvision's v2 functions, one image after another: the reference of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

import largeds_native as lds
from tests import reference

JITTER = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
NAMES = ("brightness", "contrast", "saturation", "hue")


def augmented(
    images: Tensor, color: lds.ColorAugment, keys: Sequence[int], *, seed: int = 0, epoch: int = 0, view: int = 0
) -> Tensor:
    """(n, C, H, W) uint8 or float, contiguous."""
    return torch.stack(
        [
            _augmented(image, color, reference.color_uniforms(seed, epoch, view, key, 33))
            for image, key in zip(images.contiguous(), keys, strict=True)
        ]
    )


def _augmented(image: Tensor, color: lds.ColorAugment, uniforms: list[float]) -> Tensor:
    channels, height, width = image.shape
    draw = reference.color_draw(uniforms, color, height, width)
    for operation in draw["order"]:
        center = 0.0 if NAMES[operation] == "hue" else 1.0
        if getattr(color, NAMES[operation]) != (center, center):  # torchvision's ColorJitter leaves it out
            image = JITTER[operation](image, draw["factors"][operation])
    if draw["grayscale"]:
        image = F.rgb_to_grayscale(image, channels)
    if draw["blur"] is not None:
        image = F.gaussian_blur(image, [color.blur_kernel] * 2, [draw["blur"]] * 2)
    whole = image.dtype == torch.uint8
    if draw["solarize"]:
        image = F.solarize(image, color.solarize_threshold * (255 if whole else 1))
    if draw["box"] is not None:
        given = color.erasing_value if isinstance(color.erasing_value, tuple) else (color.erasing_value,) * channels
        value = torch.tensor([round(v * 255) if whole else v for v in given]).to(image.dtype).view(-1, 1, 1)
        image = F.erase(image, *draw["box"], value)
    return image
