"""Ways to run a network, one file each; found by the registry `engine`."""
