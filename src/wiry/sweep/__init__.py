"""Many trainings.

Trials, local processes, and the search for the sparsest network that is good enough.
"""
