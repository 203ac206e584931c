"""Compares packing, loading and training with other libraries on one machine.

run.py runs a stage. pack_stage.py, load_stage.py and train_stage.py have the candidates of each stage, image_set.py has
the images that all of them read, and chart.py draws the results.
"""
