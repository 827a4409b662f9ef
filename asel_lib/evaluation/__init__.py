"""How well a model does and what it costs, as one tidy table: accuracy, cost, and the sweep that joins them.

Import the modules themselves (`from asel_lib.evaluation import benchmark`); nothing heavy is imported here.
"""
