#!/bin/sh
# Put a git clone of the project into the shared volume once, and point its DVC at the S3 store. Run again, it leaves
# the clone as it is: update it deliberately (docs/production.md), never under a running task.
set -eu
project=${SHOPLENS_ROOT:-/opt/shoplens}
environments=${SHOPLENS_VENVS:-/opt/venvs}
cd "$project"
[ -e .git ] || git clone "$SHOPLENS_REPOSITORY" .
ln -sfn "$environments/pipeline" .venv
ln -sfn "$environments/orchestrator" .venv-airflow
printf '/.venv\n/.venv-airflow\n' > .git/info/exclude    # .gitignore names folders, these are links
mkdir -p var
dvc remote add --local --default --force --quiet s3 "s3://$S3_BUCKET/dvc"
dvc remote modify --local --quiet s3 endpointurl "$S3_ENDPOINT"
git log -1 --format='the volume holds %h of %cs: %s'
