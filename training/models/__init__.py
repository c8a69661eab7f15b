"""Models behind one interface (one file per architecture, one for the baselines), and how a model is saved."""
