"""What the DAG files share: constants, the graph of dvc.yaml, the operator that runs a command."""
