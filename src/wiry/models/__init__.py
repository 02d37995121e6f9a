"""Networks that take images in [0, 1] and return logits: one file a family, found by its decorator.

Imports only core. What is done with a model, training or pruning, is told in other rooms.
"""
