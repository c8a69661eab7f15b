"""Release and service: the gate, releases on disk. Nothing here trains, and nothing here imports the DAGs."""
