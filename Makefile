# The menu. CI calls the same targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help run demo test test-fast check bench bench-peers format clean system

help:  ## Show this menu
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 22

run: $(VENV)/.sandbox  ## Set up and start on a throwaway MongoDB: http://localhost:3333
	$(PYTHON) server.py --sandbox

demo: $(VENV)/.sandbox  ## Set up and play the scripted demo: http://localhost:3333
	$(PYTHON) server.py --demo

test: $(VENV)/.dev system  ## Run every test, on a real MongoDB and a real browser
	$(PYTHON) -m pytest

test-fast: $(VENV)/.dev  ## Run the tests that need neither MongoDB nor a browser: under a minute
	$(PYTHON) -m pytest -q -m "not mongod and not browser" tests/core tests/http

check: $(VENV)/.dev  ## Lint, format and types
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/.dev  ## Measure this server beside the C floor
	$(PYTHON) -m bench.run

bench-peers: $(VENV)/.dev  ## Measure it beside Express, better-sse, sse-starlette, nchan; renew docs/performance.md
	$(PYTHON) -m bench.install
	$(PYTHON) -m bench.run --peers --report docs/performance.md --plot docs/performance.svg

format: $(VENV)/.dev  ## Format the code
	ruff check --fix .
	ruff format .

clean:  ## Remove what was set up
	rm -rf $(VENV) build dist *.egg-info node_modules tests/node_modules

system:
	@tests/system-packages

$(VENV)/bin/python:
	@echo "setting up $(VENV): this fetches packages, once"
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip

$(VENV)/.sandbox: setup.py $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --editable '.[sandbox]'
	@touch $@

$(VENV)/.dev: setup.py tests/package.json $(VENV)/bin/python
	$(PYTHON) -m pip install --quiet --editable '.[dev]'
	cd tests && npm install --silent --no-package-lock --no-audit --no-fund
	@touch $@ $(VENV)/.sandbox
