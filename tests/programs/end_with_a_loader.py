"""Exits while a loader over the store argv[1] is running, in the way of argv[2]."""

import sys
import threading
from typing import Any

import largeds_native as lds

loader = lds.Loader(lds.open(sys.argv[1]), 4)
match sys.argv[2]:
    case "between batches":
        iterator = iter(loader)
        batch = next(iterator)
    case "with a batch kept":
        batch = list(loader)[3]
    case "by an exception":
        iterator = iter(loader)
        raise SystemExit(0)
    case "with a thread that waits":
        # kept: while the interpreter ends, a thread that frees a tensor aborts the process within torch
        kept: list[Any] = []
        threading.Thread(target=lambda: [kept.append(batch) for batch in loader], daemon=True).start()
        next(iter(loader))
    case other:
        raise ValueError(other)
