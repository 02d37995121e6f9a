"""wiry: find, train, judge and ship neural networks that are sparse and adversarially robust."""
