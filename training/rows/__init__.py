"""The rows on which models are trained and evaluated: a user at a point in time with a label, split by time."""
