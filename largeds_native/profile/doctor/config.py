"""The configuration of `largeds doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from largeds_native.transform.image_transform import Size

if TYPE_CHECKING:
    from largeds_native.store import Store

DEFAULT_SECONDS = 25.0


@dataclass(frozen=True)
class ProfileConfig:
    """make_model(classes, store, (height, width)) returns the model to train; None measures the data alone. crop: also
    the size of the crops of JPEG rows. seconds: duration of the whole profile, if a training step takes no more than a
    second or two."""

    batch_size: int
    device: torch.device
    threads: int
    make_model: Callable[[int, Store, tuple[int, int]], nn.Module] | None = None
    model: str | None = None
    resize: Size = 256
    crop: Size = 224
    seconds: float = DEFAULT_SECONDS
    progress: Callable[[str], object] = lambda text: None

    def scaled(self, seconds: float) -> float:
        """Scales `seconds`, which are meant for a profile of DEFAULT_SECONDS, to the duration of this one."""
        return seconds * self.seconds / DEFAULT_SECONDS
