"""Does memory stay constant? Decodes good and damaged files 100,000 times, and prints the resident memory meanwhile.

python benchmarks/leak_check.py [--decodes 100000]
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # run from a checkout without installing

from largeds_native import _C
from tests.attacks.images import GOOD, jpeg_of_size, png_of_size

ALLOWED_GROWTH = 4 << 20  # bytes, after the warm-up


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def files(seed: int) -> list[bytes]:
    """All kinds of small files: good, truncated, with a damaged byte, and with a wrong size in the header."""
    random = np.random.default_rng(seed)
    batch = [jpeg_of_size(60000, 60000), png_of_size(60000, 60000), b"", b"\xff\xd8\xff"]
    for data in GOOD.values():
        damaged = bytearray(data)
        damaged[random.integers(len(data))] ^= 1 << random.integers(8)
        batch += [data, data[: random.integers(len(data))], bytes(damaged)]
    return batch


def growth(decodes: int, *, report: bool = False) -> int:
    """Bytes of resident memory that `decodes` decodes add after a tenth of them."""
    spec = _C.RowSpec(resize_h=20, crop_h=16, crop_w=16, out_h=16, out_w=16, max_pixels=100_000)
    done, before = 0, 0
    while done < decodes:
        batch = files(done)
        for data in batch:  # also the code paths that raise exceptions
            with contextlib.suppress(ValueError):
                _C.decode_image(data, max_pixels=100_000)
        out = np.empty((len(batch), spec.row_bytes), np.uint8)
        _C.decode_to_rows([*batch], out, spec, 2)
        done += 2 * len(batch)
        if done >= decodes // 10 and not before:
            gc.collect()
            before = resident_bytes()
        if report and done % (decodes // 10) < 2 * len(batch):
            print(f"{done:>9,} decodes: {resident_bytes() / 2**20:8.1f} MiB", flush=True)
    gc.collect()
    return resident_bytes() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decodes", type=int, default=100_000)
    grown = growth(parser.parse_args().decodes, report=True)
    print(f"grown by {grown / 2**20:.1f} MiB after the warm-up; allowed: {ALLOWED_GROWTH / 2**20:.0f} MiB")
    sys.exit(grown > ALLOWED_GROWTH)


if __name__ == "__main__":
    main()
