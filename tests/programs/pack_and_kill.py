"""Packs a tree in child processes that are killed at random times, and prints how many were killed.

python -m tests.programs.pack_and_kill TREE OUT KILLS SEED OPTIONS_AS_JSON

A store that was finished is renamed to OUT-done-N, so that the next child packs anew. The children are forked, so that
torch is imported once and not once a kill.
"""

import json
import os
import random
import signal
import sys
import time

import pyarrow.parquet  # noqa: F401  (so that the children need not)

import largeds_native as lds
from largeds_native import _C  # noqa: F401  (likewise)

tree, out, kills, seed, options = sys.argv[1:]
moments = random.Random(int(seed))
killed = 0
for i in range(int(kills)):
    child = os.fork()
    if child == 0:
        lds.pack(tree, out, threads=1, **json.loads(options))
        os._exit(0)
    time.sleep(moments.uniform(0, 0.12))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    if os.path.exists(out + "/manifest.json"):
        lds.open(out).close()
        os.rename(out, f"{out}-done-{i}")
print(killed)
