"""Training: the loop, its observers, checkpoints, and stages that start from one another."""
