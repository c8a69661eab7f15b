"""Measurements, side by side with what they are measured against: `make bench-…` runs them, docs/benchmarks.md tells.

Nothing here is imported by the platform.
"""
