.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= auto

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 setup"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' .venv/lib app || true # or every start compiles where Python may not keep byte code
	@touch $@

setup: .venv/.ready ## Build the virtual environment from requirements.lock

demo: .venv/.ready ## Twelve simulated weeks end to end: no key, no Docker, no database, $0
	$(BIN)/switchwise demo

test: .venv/.ready ## Run the tests (real Postgres, no Docker needed)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" $(ARGS)

lint: .venv/.ready ## ruff and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/.ready ## mypy --strict
	$(BIN)/mypy

check: lint types test ## Everything CI runs

check-slow: .venv/.ready ## Full calibration, faults and scale tests (about an hour)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m slow $(ARGS)

.venv/.browser: .venv/.ready requirements-browser.lock
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements-browser.lock
	@touch $@

check-pages: .venv/.browser ## The pages in a real browser: links, diff, dark, print, phone, accessibility
	@$(BIN)/python -c 'import shutil, sys; sys.exit(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))' || { echo "A Chromium is needed, e.g. on Debian and Ubuntu: apt-get install chromium"; exit 1; }
	$(BIN)/python -m pytest -q -rs tests/acceptance/test_pages.py $(ARGS)

bench: .venv/.ready ## Performance as ratios, printed
	$(BIN)/python -m pytest -q -s -m slow tests/benchmarks $(ARGS)

fmt: .venv/.ready ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## Pin every dependency again (needs uv)
	uv pip compile pyproject.toml --extra dev --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -q -o requirements.lock
	uv pip compile pyproject.toml --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -q -c requirements.lock -o requirements-service.lock
	uv pip compile pyproject.toml --extra browser --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -q -c requirements.lock -o requirements-browser.lock

clean: ## Remove what was built or run here
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .switchwise

.PHONY: help setup demo test lint types check check-slow check-pages bench fmt lock clean
