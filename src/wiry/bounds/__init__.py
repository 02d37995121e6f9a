"""Sound bounds on what a network can say anywhere in a ball: intervals and linear relaxations."""
