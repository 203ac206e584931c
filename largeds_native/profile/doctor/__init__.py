"""What limits an epoch, and what to change.

run.py measures, in a bounded time: each part alone (parts.py), then the real training loop (throughput.py), over a
store, over files as they are used today (baseline.py), or in the user's script (script.py, instrument.py). config.py
says what to measure, results.py what was found, summary.py turns it into a table and two sentences.
"""
