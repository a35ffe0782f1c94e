# Everything a person or a CI machine types. Needs Python >= 3.12 and make; the rest is installed into .venv.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# The first of these that is new enough; PYTHON=... overrides.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo up test lint types bench bench-revoke faults fuzz clean setup setup-dev

help: ## What there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## The whole bus on a throw-away home, told and checked (ARGS=--json)
	@$(BIN)/sos demo $(ARGS)

up: setup ## A bus on this machine, until Ctrl-C (ARGS=--help)
	@exec $(BIN)/sos up $(ARGS)

test: setup-dev ## All tests, against real servers (ARGS='-k name')
	@$(BIN)/pytest $(ARGS)

lint: setup-dev ## Style, and which room may import which
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-cache

types: setup-dev ## pyright, strict
	@$(BIN)/pyright

faults: setup-dev ## The long fault runs: 20 kills of the server, 20 of the gateway (ARGS=--kills=N)
	@$(BIN)/pytest tests/faults --kills=20 --timeout=1800 $(ARGS)

fuzz: setup-dev ## A thousand requests of each kind against /openapi.json, in half an hour or so
	@SOS_HTTP_EXAMPLES=1000 $(BIN)/pytest tests/acceptance/test_openapi_schemathesis.py --timeout=3600 $(ARGS)

bench-revoke: setup-dev ## How soon a revoked agent is cut off: 200 of them (ARGS=--agents=N)
	@PYTHONPATH=. $(BIN)/python bench/revocation.py $(ARGS)

bench: setup-dev ## Timings on this machine; they gate nothing
	@$(BIN)/python bench/delivery.py $(ARGS)

clean: ## Remove what was installed and cached
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(VENV)/.server
setup-dev: $(VENV)/.dev

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed; say where it is: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.server: pyproject.toml $(VENV)/.python
	@echo "Installing the bus into $(VENV)…"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.server
	@echo "Installing what the tests need into $(VENV)…"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[server,dev]'
	@touch $@
