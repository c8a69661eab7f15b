"""Training: rows and labels, models behind one interface, the training loop, evaluation, explanation, comparison.

Features come from `features` and are never computed here. Nothing in this package depends on the service or a store.
"""
