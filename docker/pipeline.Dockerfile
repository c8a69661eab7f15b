# The pipeline environment: DVC, Great Expectations, Feast, Keras and BentoML. The code itself is the git clone in the
# volume at /opt/shoplens, which the editable install points at. Build from the project folder:
#   docker build -f docker/pipeline.Dockerfile -t shoplens-pipeline:0.1.0 .
FROM python:3.11.15-slim-bookworm AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/venvs/pipeline UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /opt/shoplens
COPY pyproject.toml uv.lock README.md LICENSE NOTICE.md ./
COPY shoplens shoplens
COPY events events
COPY simulator simulator
COPY expectations expectations
COPY features features
COPY training training
COPY serving serving
COPY insights insights
RUN uv sync --locked --no-default-groups --group pipeline-production --group cpu
RUN echo "import pathlib, shoplens.environment; shoplens.environment.apply(pathlib.Path('/opt/shoplens'))" \
    > "$(/opt/venvs/pipeline/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shoplens_environment.pth"

FROM python:3.11.15-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    # The mounted repository belongs to another user than the one who clones it.
    && git config --system --add safe.directory /source/.git \
    && useradd --uid 1000 --create-home shoplens \
    && install --directory --owner=shoplens --group=shoplens /opt/shoplens /opt/airflow
COPY --from=build /opt/venvs/pipeline /opt/venvs/pipeline
COPY docker/clone.sh /usr/local/bin/shoplens-clone
ENV PATH=/opt/venvs/pipeline/bin:$PATH SHOPLENS_ROOT=/opt/shoplens PYTHONUNBUFFERED=1
USER shoplens
WORKDIR /opt/shoplens
CMD ["shoplens", "supervise"]
