"""What will happen next: rows and labels, models behind one contract, one loop, evaluation, explanation, comparison.

Features come from `features` and are never computed here; nothing here knows a service or a store.
"""
