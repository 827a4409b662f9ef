"""What is computed of the answers to all test images: one registered metric or a few a module.

A module that registers a `registry.Metric` here adds a column to the results; nothing else lists it.
"""
