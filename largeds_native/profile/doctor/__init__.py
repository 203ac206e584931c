"""Finds what limits an epoch, and what to change.

run.py measures in a bounded time each part alone (parts.py), and then the real training loop (throughput.py), over a
store, over image files (baseline.py), or in the user's script (script.py, instrument.py). config.py defines what to
measure, results.py holds the results, and summary.py turns them into a table and two sentences.
"""
