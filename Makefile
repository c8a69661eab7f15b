# The same words for a person, a hook and CI. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' 2>/dev/null && { command -v $$p; break; }; done)
UV := $(shell command -v uv || echo .tools/uv/bin/uv)
# GPU=1 or GPU=0 chooses; any other word keeps what is installed: a platform that runs must not lose its TensorFlow.
STAMPS := .venv/.synced-cpu .venv/.synced-gpu .venv/.synced-cpu-spark .venv/.synced-gpu-spark
INSTALLED_GROUP := $(firstword $(patsubst %-spark,%,$(patsubst .venv/.synced-%,%,$(wildcard $(STAMPS)))))
DEVICE_GROUP := $(if $(GPU),$(if $(filter 0,$(GPU)),cpu,gpu),$(or $(INSTALLED_GROUP),cpu))
# Spark is 450 MB that only tests and data beyond one machine need (SPARK=1); once installed it stays.
SPARK ?= $(if $(filter test,$(MAKECMDGOALS)),1,$(if $(wildcard .venv/.synced-*-spark),1))
SPARK_GROUP := $(if $(filter 1,$(SPARK)),spark)
STAMP := .venv/.synced-$(DEVICE_GROUP)$(SPARK_GROUP:%=-%)
export UV_PYTHON_DOWNLOADS := never
# Once, on all cores, rather than in the first process of each kind: TensorFlow alone takes four seconds.
export UV_COMPILE_BYTECODE := 1
export SHOPLENS_GPU := $(GPU)
# First on PATH, so that `dvc` and the stages it runs are those of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help env demo stop status test lint compare replay chaos bench-features bench-ingest bench-lake bench-live bench-materialize bench-models clean erase-lake

help: ## List these words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.tools/uv/bin/uv:
	@[ -n "$(PYTHON)" ] || { echo "ShopLens needs Python 3.11, 3.12 or 3.13 on PATH (or: make PYTHON=/path/to/python3.11)" >&2; exit 1; }
	$(PYTHON) -m venv .tools/uv
	.tools/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

# The stamp is made old first, and make must not remove it: after an interrupted sync the next call continues with it.
.PRECIOUS: $(STAMPS)
$(STAMP): pyproject.toml uv.lock | $(UV)
	@[ ! -d .venv ] || { rm -f .venv/.synced-*; touch -d @0 $@; }
	UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --quiet --locked --python "$(PYTHON)" --no-default-groups --group pipeline --group dev --group $(DEVICE_GROUP) $(SPARK_GROUP:%=--group %)
	echo 'import shoplens.environment; shoplens.environment.apply()' > "$$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shoplens_environment.pth"
	touch $@

.venv-airflow/.synced: pyproject.toml uv.lock | $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-airflow $(UV) sync --quiet --locked --python "$(PYTHON)" --no-install-project --only-group orchestrator --only-group orchestrator-dev
	touch $@

env: $(STAMP) .venv-airflow/.synced ## Make both environments

demo: env ## Run the whole platform on real shopping data and leave a prediction service answering
	shoplens demo

stop: ## Stop exactly what `make demo` started
	@if [ -x .venv/bin/shoplens ]; then shoplens stop; else echo "nothing was started here"; fi

status: ## Show what is running and what is in service
	@if [ -x .venv/bin/shoplens ]; then shoplens status; else echo "nothing is running: there is no .venv here; \`make env\` makes it, \`make demo\` all"; fi

compare: env ## Train every model on the data of params.yaml and write the comparison table
	$(if $(ARGS),,dvc repro features)
	shoplens compare $(ARGS)

lint: env ## ruff, mypy strict in both environments, import-linter
	ruff check .
	ruff format --check .
	mypy
	MYPYPATH=dags .venv-airflow/bin/mypy --config-file dags/mypy.ini dags
	lint-imports

test: env ## All tests: pure-Python ones first
	pytest

replay: env ## Stream the last day through the live path, compare every feature with the batch
	dvc repro validate
	python -m tests.replay $(ARGS)

chaos: env ## Kill every step at random moments, compare the result with an undisturbed run
	python -m tests.chaos $(ARGS)

bench-live: env ## Measure the live path: events per second, milliseconds until the feature changes
	python -m bench.live $(ARGS)

bench-features: env ## Measure the daily views of one night, beside SQL written by hand
	python -m bench.features $(ARGS)

bench-ingest: env ## Measure the stage ingest on simulated logs, beside Polars reading and writing
	python -m bench.ingest $(ARGS)

bench-lake: env ## Measure live appends into an empty lake and into a large one
	python -m bench.lake $(ARGS)

bench-materialize: env ## Measure values loaded online per second, ours beside Feast's own stores
	python -m bench.materialize $(ARGS)

bench-models: env ## Measure next-item models on a public log (ARGS=FILE): quality, speed, parity, memory; transfer between shops
	python -m bench.models $(ARGS)

clean: stop ## Remove what runs leave behind; keep the environments and the lake
	rm -rf var outs

erase-lake: ## Delete the lake, which nothing can rebuild; asks first
	@lake="$${SHOPLENS_LAKE:-lake}"; [ -d "$$lake" ] || { echo "there is no folder $$lake here"; exit 0; }; \
	printf '%s holds %s of events that nothing can rebuild. Type "erase the lake" to delete it: ' "$$lake" "$$(du -sh "$$lake" | cut -f1)"; \
	read -r answer || true; \
	[ "$${answer:-}" = "erase the lake" ] || { echo "nothing was deleted" >&2; exit 1; }; \
	rm -rf -- "$$lake"
