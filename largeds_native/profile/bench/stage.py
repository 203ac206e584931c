"""The stages of `largeds bench`. In its own file, as the command line imports it for its help."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    pack = "pack"
    load = "load"
    train = "train"
