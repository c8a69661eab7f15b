"""Models behind one interface, one architecture per file, and the artifact folder in which a model is saved."""
