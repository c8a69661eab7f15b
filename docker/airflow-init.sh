#!/bin/sh
# Migrate Airflow's database to this version, make the one-slot pool, and write the admin's password where the api-server
# reads it. Safe to run at every start.
set -eu
airflow db migrate
airflow pools set workspace 1 "One task at a time runs dvc in the clone"
# An argument list would show the password to `ps`; the environment does not.
python - <<'PYTHON'
import json, os, pathlib

path = pathlib.Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
path.touch(mode=0o600)
path.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}) + "\n")
PYTHON
