"""Code shared by the DAG files: constants, the graph of dvc.yaml, and the operator that runs a command."""
