# Every target installs what it needs into .venv, from the pinned versions in constraints.txt.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo docs screenshots test lint format bench test-matrix test-surface clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is imported by hundreds of processes is compiled once, whatever the shell of a container says.
unexport PYTHONDONTWRITEBYTECODE
# Stamps: installed since pyproject.toml or constraints.txt changed. The demo needs no linters and no test tools.
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.installed-for-demo
# Quiet but for errors: pip warns at length about its own configuration.
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

# $(call step,name,command): says what is done, then how long it took.
step = @echo "== $(1)"; start=$$(date +%s); $(2) && echo "== $(1): done in $$(( $$(date +%s) - start )) s"

# Where an untested branch could let somebody in or lock somebody out.
CORE := entitlement_gate/domain/*,entitlement_gate/resilience/*,entitlement_gate/engine/*,entitlement_gate/zenskar/*,entitlement_gate/ledger/*,entitlement_gate/shared/*,entitlement_gate/usage/*,entitlement_gate/api.py,entitlement_gate/decorators.py,entitlement_gate/guard.py,entitlement_gate/holds.py,entitlement_gate/metrics.py,entitlement_gate/middleware.py,entitlement_gate/mixins.py,entitlement_gate/ninja_operations.py,entitlement_gate/project_gate.py,entitlement_gate/refusals.py,entitlement_gate/request_entitlements.py,entitlement_gate/resolvers.py,entitlement_gate/responses.py,entitlement_gate/url_rules.py,entitlement_gate/waiting.py

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "entitlement_gate needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(call step,make $(VENV),$(PYTHON) -m venv $(VENV) && $(PIP) --upgrade pip)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(call step,install all that is needed to develop into $(VENV) ($$($(BIN)/python --version)),$(PIP) --editable . --group dev)
	@touch $@ $(DEMO_INSTALLED)

$(DEMO_INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(call step,install what the example needs into $(VENV) ($$($(BIN)/python --version)),$(PIP) --editable . --group demo)
	@touch $@

demo: $(DEMO_INSTALLED) ## the example project on the bundled sandbox; prints its address
	@$(BIN)/python example_project/demo.py --end-with-parent $(DEMO)

lint: $(INSTALLED) ## every static check
	$(call step,ruff: rules,$(BIN)/ruff check .)
	$(call step,ruff: format,$(BIN)/ruff format --check .)
	$(call step,mypy: types,$(BIN)/mypy)
	$(call step,import-linter: directions of imports,$(BIN)/lint-imports)

docs: $(INSTALLED) ## the documentation site, from docs/; prints where it is
	@$(BIN)/python docs/site/reference.py
	$(call step,documentation: every warning is an error,$(BIN)/python docs/site/build.py)

screenshots: $(INSTALLED) ## the pictures of README and docs, into docs/images
	$(call step,Debian packages for the tests,tools/system-packages)
	@$(PIP) --group screenshots
	$(call step,screenshots,$(BIN)/python -m pytest --quiet -p no:randomly tests/screenshots.py)

# Three processes for two cores: much of it waits. Coverage hangs on nobody who wins a race: the lab takes no part in it.
test: lint docs ## every static check and every test, with coverage
	$(call step,Debian packages for the tests,tools/system-packages)
	$(call step,tests,$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --ignore=tests/lab --cov --cov-report=)
	$(call step,coverage of the core: every branch,$(BIN)/coverage report --fail-under=100 --include='$(CORE)')
	$(call step,coverage of the rest,$(BIN)/coverage report --fail-under=98)
	$(call step,tests that need time: load and processes,$(BIN)/python -m pytest --numprocesses 3 --dist worksteal tests/lab)

test-matrix: $(INSTALLED) ## the tests on every Python and Django that is here (MATRIX="-s …" to choose)
	@$(PIP) --group matrix
	$(BIN)/nox $(MATRIX)

test-surface: $(INSTALLED) ## the tests of the Django surface on every Python that is here, and on every Django
	@$(PIP) --group matrix
	$(BIN)/nox --session surface $(MATRIX)

format: $(INSTALLED) ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## tables of ratios against peers, measured in one run
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint benchmarks/constraints.txt --group bench
	@$(BIN)/python benchmarks/run.py $(BENCH)

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .nox
