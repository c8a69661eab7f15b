"""Why the model says so: permutation importance on held-out rows."""
