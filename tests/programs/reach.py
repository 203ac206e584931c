"""Accesses each name in argv after `import largeds_native as lds`, without any other import."""

import os
import sys
from operator import attrgetter

import torch  # noqa: F401  (so that the children need not)

failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            import largeds_native as lds

            attrgetter(name)(lds)
            os._exit(0)
        except BaseException as error:
            print(f"lds.{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        failed.append(name)
assert not any(module.startswith("largeds_native") for module in sys.modules)
sys.exit(len(failed))
