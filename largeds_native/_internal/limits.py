"""Bounds on what is read. The command line shows them too, so that importing them must not import torch."""

from __future__ import annotations

MAX_PIXELS = 178_956_970  # per image; Pillow raises DecompressionBombError above this number
