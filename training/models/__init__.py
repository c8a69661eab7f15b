"""Models behind one contract, and the folder (artifact) in which each is kept. One architecture a file."""
