# Every target installs what it needs into .venv, from the pinned versions in constraints.txt.
.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench test-matrix test-surface clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# `make install` once per change of what is to be installed; the stamp remembers it.
INSTALLED := $(VENV)/.installed

# Where an untested branch could let somebody in or lock somebody out.
CORE := entitlement_gate/domain/*,entitlement_gate/zenskar/*,entitlement_gate/runtime/*,entitlement_gate/ledger/*,entitlement_gate/shared/*,entitlement_gate/access.py,entitlement_gate/consuming.py,entitlement_gate/decorators.py,entitlement_gate/guarding.py,entitlement_gate/marks.py,entitlement_gate/request_gate.py,entitlement_gate/middleware.py,entitlement_gate/mixins.py,entitlement_gate/rules.py

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
	@tools/system-packages
	$(BIN)/python -m pytest --numprocesses 2 --ignore=tests/lab --cov --cov-report=
	$(BIN)/python -m pytest tests/lab --cov --cov-append --cov-report=
	$(BIN)/coverage report --fail-under=100 --include='$(CORE)'
	$(BIN)/coverage report --fail-under=98

test-matrix: $(INSTALLED) ## the tests on every Python and Django that is here (MATRIX="-s …" to choose)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group matrix
	$(BIN)/nox $(MATRIX)

test-surface: $(INSTALLED) ## the tests of the Django surface on every Python and Django that is here
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group matrix
	$(BIN)/nox --session surface $(MATRIX)

format: $(INSTALLED) ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## tables of ratios against peers, measured in one run
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint benchmarks/constraints.txt --group bench
	@$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .nox
