"""Many small trainings as one: networks of one shape, stacked; the loop for one stays as it is."""
