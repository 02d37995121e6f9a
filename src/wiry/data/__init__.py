"""Data sets as tensors and batches of them: one file a set, found by its decorator.

Imports only core. Models, training and evaluation look at `base` and `loader`.
"""
