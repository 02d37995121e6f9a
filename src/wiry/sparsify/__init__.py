"""Methods that decide which weights exist: one file a method; scores, allocations, schedules.

Robustness comes from outside: gradients already carry the objective. Imports only `core`.
"""
