"""A simulated shop with known ground truth: a log with people, promotions, bots and dirt, at any size.

For load tests, fault tests, demonstrations, and tests against the ground truth, but never as a substitute for real
data. Nothing here reads data or learns: every number follows from the arguments, and the log is ingested through a
mapping like any other (`events/mappings/simulated.yaml`).
"""
