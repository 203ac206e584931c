"""As root: loads a store as the user nobody, who may not write its files.

Prints how many rows were requested ahead, from a cold cache and from a warm one, and whether the kernel tells such a
user what is in memory.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch

import largeds_native as lds
from largeds_native._internal.measure import drop_files


def requested(path: Path) -> int:
    loader = lds.Loader(lds.open(path), 10, shuffle=True, seed=5, prefetch=0, dtype=torch.uint8)
    seen, read_ahead = [], 0
    for _, labels in loader:
        seen += labels.tolist()
        read_ahead = loader.stats()["read_ahead"]
    if sorted(seen) != list(range(100)):
        sys.exit(f"expected each sample once, found {seen}")
    return read_ahead


def main(path: Path) -> None:
    requested(path)  # nobody may have no right to read the modules that this imports
    files = [file.path for file in lds.open(path).files("images")]
    os.setuid(65534)
    found = {}
    for _ in range(20):  # the kernel keeps pages that another process just used
        drop_files(files)
        found["cold"] = requested(path)
        if found["cold"] > 50:
            break
        time.sleep(0.1)
    for file in files:
        Path(file).read_bytes()
    found["warm"] = requested(path)
    with open(files[0], "rb") as file:
        try:
            found["told"] = os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
        except OSError:
            found["told"] = False
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
