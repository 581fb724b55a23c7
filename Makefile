# Warren's workshop. `make` alone lists what there is. Each target makes the virtual environment it needs, from the lock
# file, and again when the lock or pyproject.toml changes; nothing has to be installed by hand but Python and make.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreters to try for a new environment, best first; `make PYTHON=/path/to/python3.12 …` names one.
PYTHON ?= python3.11 python3.12 python3.13 python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_VENV := build/bench-venv
BENCH_READY := $(BENCH_VENV)/.ready
PYTEST := $(BIN)/python -m pytest
PIP := $(BIN)/python -m pip --disable-pip-version-check
BENCH_PIP := $(BENCH_VENV)/bin/python -m pip --disable-pip-version-check

# Compilers that are installed for the tests alone.
TOOLS := $(CURDIR)/build/tools
export PATH := $(TOOLS)/bin:$(PATH)

.PHONY: help
help: ## this list
	@echo 'make <target>:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## run the text pipeline over Warren's own documents, with no broker
	@$(BIN)/warren demo

.PHONY: venv
venv: $(READY) ## make the virtual environment, with Warren installed from this checkout

## tests ##############################################################################################################

.PHONY: test
test: $(READY) broker redis asc qjs zig componentize-py ## every test but the wheel's
	$(PYTEST) -m 'not wheel'

.PHONY: test-unit
test-unit: $(READY) ## tests that need nothing but Python, and little time
	$(PYTEST) -m 'not broker and not redis and not toolchain and not wheel and not hostile'

.PHONY: test-broker
test-broker: $(READY) broker ## tests on a real RabbitMQ
	$(PYTEST) -m broker

.PHONY: test-toolchain
test-toolchain: $(READY) asc qjs zig componentize-py ## rebuild plugins in every language whose compiler is installed
	$(PYTEST) -m toolchain

# LANG is the locale of every program as well, and node dies of a locale that there is not.
.PHONY: sdk-test
sdk-test: $(READY) ## new, build and call a plugin in every language of the kit, or in one (LANG=zig)
	SDK_LANGUAGE=$(if $(filter command line,$(origin LANG)),$(LANG)) LANG=C.UTF-8 $(PYTEST) tests/workers/kit/test_sdks.py

.PHONY: test-hostile
test-hostile: $(READY) ## every attack on the sandbox, the long ones too
	$(PYTEST) tests/plugins/test_hostile*.py

.PHONY: test-wheel
test-wheel: $(READY) ## build wheel and sdist, and drive them in clean environments
	$(PYTEST) tests/wheel

.PHONY: broker
broker:
	@tests/install-broker.sh

.PHONY: redis
redis:
	@tests/install-redis.sh

.PHONY: asc
asc:
	@command -v asc >/dev/null || ! command -v npm >/dev/null \
	    || npm install --silent --global --prefix $(TOOLS) assemblyscript@0.28.20

.PHONY: qjs
qjs:
	@command -v componentize-qjs >/dev/null || ! command -v npm >/dev/null \
	    || npm install --silent --global --prefix $(TOOLS) componentize-qjs@0.4.5

.PHONY: componentize-py
componentize-py: $(READY)
	@$(BIN)/componentize-py --version >/dev/null 2>&1 || $(PIP) install --quiet componentize-py==0.25.1

.PHONY: zig
zig: $(READY)
	@$(BIN)/python -m ziglang version >/dev/null 2>&1 || $(PIP) install --quiet ziglang==0.17.1

## checks #############################################################################################################

.PHONY: lint
lint: $(READY) ## ruff, mypy, pyright and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: check
check: lint broker redis asc zig componentize-py ## everything that must hold before a change is taken: lint, and all tests
	$(PYTEST)

.PHONY: bench
bench: $(BENCH_READY) broker ## one worker on RabbitMQ, beside others: table, JSON, SVG (BENCH='--quick --json FILE --svg FILE')
	@$(BENCH_VENV)/bin/python -m tests.benchmarks $(BENCH)

.PHONY: bench-sandbox
bench-sandbox: $(BENCH_READY) ## what a request costs, beside wasmtime-py, Extism and a bare loop (BENCH='--quick --json FILE')
	@$(BENCH_VENV)/bin/python -m tests.benchmarks.sandbox $(BENCH)

.PHONY: samples-table
samples-table: $(READY) ## what one plugin costs in each language, as plugins/samples/README.md then says
	@$(BIN)/python -m tests.benchmarks.samples --write

## the environment ####################################################################################################

COMPILE_LOCK = $(BIN)/uv pip compile --universal --generate-hashes --no-annotate --python-version 3.11 \
    --custom-compile-command 'make lock' --no-emit-index-url --quiet $(if $(UPGRADE),--upgrade) --extra worker --extra redis

.PHONY: lock
lock: $(READY) ## resolve the lock files anew (UPGRADE=1 takes the newest versions)
	$(PIP) install --quiet 'uv>=0.9,<1'
	$(COMPILE_LOCK) --group dev --output-file requirements.lock pyproject.toml
	$(COMPILE_LOCK) --group bench --constraint requirements.lock --output-file requirements-bench.lock pyproject.toml

.PHONY: clean
clean: ## remove the environment, the builds and the tools' caches
	rm -rf $(VENV) build dist htmlcov .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find bus manifests plugins/warren workers tests -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml | $(BIN)/pip
	@echo 'installing what Warren needs into $(VENV) …'
	@$(PIP) install --quiet --quiet --require-hashes --requirement requirements.lock
	@$(PIP) install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BENCH_READY): requirements-bench.lock pyproject.toml | $(BIN)/pip
	@echo 'installing what the benchmark compares into $(BENCH_VENV) …'
	@$(BIN)/python -m venv --clear $(BENCH_VENV)
	@$(BENCH_PIP) install --quiet --quiet --require-hashes --requirement requirements-bench.lock
	@$(BENCH_PIP) install --quiet --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/pip:
	@for python in $(PYTHON); do \
	    $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue; \
	    $$python -c 'import ensurepip, venv' 2>/dev/null \
	        || { echo "$$python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }; \
	    $$python -m venv $(VENV) && exit; \
	    exit 1; \
	done; \
	echo 'Warren needs Python 3.11, 3.12 or 3.13, and found none ($(PYTHON)); name yours: make PYTHON=/path/to/python' >&2; \
	exit 1
