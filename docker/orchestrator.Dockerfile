# The orchestrator environment: Airflow with Celery and Postgres, nothing of the pipeline. Two images:
#   airflow  the api-server, scheduler, DAG processor and triggerer
#   worker   the same Airflow beside the pipeline's environment, whose commands the tasks run
# The worker stands on the pipeline image, so that is built first (docs/production.md).
ARG PIPELINE_IMAGE=shoplens-pipeline:0.1.0

FROM python:3.11.15-slim-bookworm AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/venvs/orchestrator UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /opt/shoplens
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-install-project --only-group orchestrator-production

FROM python:3.11.15-slim-bookworm AS airflow
RUN useradd --uid 1000 --create-home shoplens \
    && install --directory --owner=shoplens --group=shoplens /opt/shoplens /opt/airflow
COPY --from=build /opt/venvs/orchestrator /opt/venvs/orchestrator
ENV PATH=/opt/venvs/orchestrator/bin:$PATH AIRFLOW_HOME=/opt/airflow PYTHONUNBUFFERED=1
USER shoplens
WORKDIR /opt/shoplens
CMD ["airflow", "version"]

FROM ${PIPELINE_IMAGE} AS worker
COPY --from=build /opt/venvs/orchestrator /opt/venvs/orchestrator
# After the pipeline's: a task's `dvc` and `python` are the pipeline's, `airflow` and `celery` exist only here.
ENV PATH=/opt/venvs/pipeline/bin:/opt/venvs/orchestrator/bin:$PATH AIRFLOW_HOME=/opt/airflow
CMD ["airflow", "celery", "worker"]
