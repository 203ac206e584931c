"""Packs argv[1] to argv[2], with the default progress."""

import sys

import largeds_native as lds

lds.pack(sys.argv[1], sys.argv[2], resize=16, crop=12)
