# Every target installs what it needs into .venv, from the pinned versions in constraints.txt.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench test-matrix clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make install` once per change of what is to be installed; the stamp remembers it.
INSTALLED := $(VENV)/.installed

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV) (Python: $$($(PYTHON) -c 'import platform; print(platform.python_version())'))"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "entitlement_gate needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	@touch $@

demo: $(INSTALLED) ## the example project on the bundled sandbox; prints its address
	@$(BIN)/python example_project/demo.py $(DEMO)

lint: $(INSTALLED) ## every static check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## every static check and every test, with coverage
	$(BIN)/python -m pytest --cov --cov-report=
	$(BIN)/coverage combine --quiet --append || true
	$(BIN)/coverage report

test-matrix: $(INSTALLED) ## the tests on every Python and Django that is here (MATRIX="-s …" to choose)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group matrix
	$(BIN)/nox $(MATRIX)

format: $(INSTALLED) ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## tables of ratios against peers, measured in one run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .nox
