"""What else can be measured of a network, one file a measure: distances, bounds, corruptions ..."""
