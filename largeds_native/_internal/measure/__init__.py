"""Measures speeds for `benchmarks/`, `largeds bench`, `largeds demo` and `largeds doctor`.

rounds.py         contenders that take turns on the same data after a warm-up; medians, spreads, ratios
paired_timing.py  training loops that take turns within one run, a block of batches at a time
contention.py     how much of the processors other programs take meanwhile
intervals.py      confidence intervals of means and medians
page_cache.py     dropping files from the page cache
report.py         tables and JSON with facts about the machine
"""

from largeds_native._internal.measure.page_cache import drop_files as drop_files
from largeds_native._internal.measure.report import as_json as as_json
from largeds_native._internal.measure.report import machine_facts as machine_facts
from largeds_native._internal.measure.report import table as table
from largeds_native._internal.measure.report import write_json as write_json
from largeds_native._internal.measure.rounds import Contender as Contender
from largeds_native._internal.measure.rounds import Measured as Measured
from largeds_native._internal.measure.rounds import Role as Role
from largeds_native._internal.measure.rounds import processor_seconds as processor_seconds
from largeds_native._internal.measure.rounds import rate_within as rate_within
from largeds_native._internal.measure.rounds import ratio as ratio
from largeds_native._internal.measure.rounds import take_turns as take_turns
