"""A shop that never was, and the truth about it: a log with people, promotions, bots and dirt, at any size.

For load, faults, demonstrations, and tests that compare with the truth; never instead of real data where there is some.
Nothing here reads data or learns: every number follows from the arguments, and the log is read through a mapping, as
anybody's (`events/mappings/simulated.yaml`).
"""
