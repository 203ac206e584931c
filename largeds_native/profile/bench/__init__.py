"""Packing, loading and training, ours and others', measured side by side on one machine.

run.py runs a stage; packing.py, loading.py and training.py have the candidates of each; image_set.py the images that
all of them read; chart.py draws the results.
"""
