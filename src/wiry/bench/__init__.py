"""Compare the ways a network can be run on this machine: speed, memory, size, accuracy."""
