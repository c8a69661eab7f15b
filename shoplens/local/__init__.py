"""The platform on one machine: `make demo`, `make stop`, `make status`.

Starts Airflow and the service's supervisor, triggers runs through Airflow's public REST API, and stops exactly what it
started. It computes nothing and imports no other folder.
"""
