"""A short training script for `largeds doctor --script`: two epochs of a Loader over the store argv[1]."""

import sys

import largeds_native as lds

with lds.open(sys.argv[1]) as store, lds.Loader(store, 2, shuffle=True) as loader:
    for _ in range(2):
        for _images, _labels in loader:
            pass
