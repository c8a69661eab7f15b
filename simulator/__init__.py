"""A simulated shop with known ground truth: a log with people, promotions, bots and dirt, at any size.

For load tests, fault tests, demonstrations, and tests that compare with the truth; never in place of real data. Nothing
here reads data or learns: every number follows from the arguments, and the log is read through a mapping like any other
(`events/mappings/simulated.yaml`).
"""
