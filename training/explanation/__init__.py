"""Explanation: permutation importance on held-out rows."""
