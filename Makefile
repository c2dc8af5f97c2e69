# `make help` lists the targets. All of them work in .venv/, which is made from the hash-locked requirements/.

SHELL  := bash
PYTHON ?= python3
UV     ?= uv
IMAGE  ?= remediator:latest
BIN    := .venv/bin

# One stamp a set of requirements and Python version: nothing is installed twice, and another PYTHON starts afresh.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
RUN     := .venv/run-$(VERSION)
DEV     := .venv/dev-$(VERSION)
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet install

LOCK    := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
           --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help demo test check lint simulate bench lock image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUN) ## break a small service and watch it being repaired (KEEP=1 leaves it running)
	@$(BIN)/remediator demo $(if $(KEEP),--keep)

test: $(DEV) lint ## everything; what is skipped says why
	$(BIN)/python -m pytest $(ARGS)

check: $(DEV) lint ## fast: format, lint, layers, types and the tests that need nothing but Python
	$(BIN)/python -m pytest -m "not docker and not e2e and not crash and not simulation and not load" $(ARGS)

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

simulate: $(RUN) ## random crashes and neighbours on a virtual clock (SEEDS=1000, FIRST=1)
	$(BIN)/python -m remediator.lab.simulation --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1)

bench: $(DEV) ## throughput, latency, memory, start-up
	$(BIN)/python -m bench $(ARGS)

lock: ## write requirements/ anew from pyproject.toml; UPGRADE=1 takes newer versions (needs uv)
	$(UV) pip compile $(LOCK) requirements/build.in -o requirements/build.txt
	$(UV) pip compile $(LOCK) pyproject.toml -o requirements/run.txt
	$(UV) pip compile $(LOCK) pyproject.toml --group dev -c requirements/run.txt -c requirements/build.txt -o requirements/dev.txt

image: ## build the container image (IMAGE=name:tag)
	docker build --tag $(IMAGE) $(ARGS) .

clean: ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(RUN): requirements/run.txt requirements/build.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("remediator needs Python 3.11 or later; try make PYTHON=python3.12")'
	$(BIN)/python$(VERSION) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) --require-hashes -r requirements/build.txt -r requirements/run.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@
