"""Benchmarks against a baseline: `make bench-…` runs them, docs/benchmarks.md has the results.

Nothing here is imported by the platform.
"""
