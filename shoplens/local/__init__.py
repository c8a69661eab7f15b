"""The platform on one machine: `make demo`, `make stop`, `make status`.

Starts Airflow and the service's supervisor, triggers runs over REST as anybody could, and ends exactly what it started.
It computes nothing and imports no other folder.
"""
