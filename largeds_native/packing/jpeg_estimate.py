"""How many bytes a JPEG row is expected to have, by the options of the pack alone."""

from __future__ import annotations

WHOLE_BYTES = 112 << 10  # of an image that keeps its size: the mean of ImageNet's is 110 kB
HEADER_BYTES = 700
MEAN_RATIO = 4 / 3  # of the longer side to the shorter
# bytes a pixel of photographs, 4:2:0, by quality: straight lines between these
BYTES_A_PIXEL = ((1, 0.03), (50, 0.1), (75, 0.17), (90, 0.3), (95, 0.43), (100, 1.0))


def estimated_row_bytes(resize: object, quality: int) -> int:
    """Of an image whose shorter side is at most `resize`, or of any size for None."""
    if not isinstance(resize, int):
        return WHOLE_BYTES
    upper = next(i for i, (level, _) in enumerate(BYTES_A_PIXEL) if quality <= level)
    (low, few), (high, many) = BYTES_A_PIXEL[max(upper - 1, 0)], BYTES_A_PIXEL[upper]
    density = many if low == high else few + (many - few) * (quality - low) / (high - low)
    return HEADER_BYTES + round(density * MEAN_RATIO * resize * resize)
