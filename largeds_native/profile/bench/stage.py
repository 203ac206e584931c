"""The stages and kinds of rows of `largeds bench`. In its own file, as the command line imports it for its help."""

from __future__ import annotations

from enum import Enum


class Rows(str, Enum):
    """Kinds of rows."""

    raw = "raw"
    jpeg = "jpeg"


class Stage(str, Enum):
    pack = "pack"
    load = "load"
    train = "train"
