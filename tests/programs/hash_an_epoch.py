"""Prints what the images of a store hash to, in order, or the error."""

from __future__ import annotations

import hashlib
import sys

import torch

import largeds_native as lds


def main(path: str) -> None:
    pixels = hashlib.sha256()
    try:
        for (images,) in lds.Loader(lds.open(path), 7, dtype=torch.uint8, fields=()):
            pixels.update(images.numpy().tobytes())
    except lds.LargedsError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    print(pixels.hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
