"""The stages of `largeds bench`. Light to import: the command line needs it for its help."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    pack = "pack"
    load = "load"
    train = "train"
