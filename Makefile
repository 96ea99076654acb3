# The menu. CI calls the same targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Exactly what a lock names. Only wheels: to build a package, pip would fetch tools that no lock names.
INSTALL_LOCK := -m pip install --quiet --require-hashes --only-binary :all: --requirement
# The project itself, built with the setuptools of the lock.
INSTALL_PROJECT := -m pip install --quiet --no-deps --no-build-isolation --editable .
# setuptools warns in a box of asterisks of every editable installation, which looks like a failed start.
WITHOUT_BOX := PYTHONWARNINGS='ignore:Editable installation'

# The rooms that use the packages of which setup.py names a lowest version.
LOWEST_TESTS := tests/core tests/http tests/access tests/mongo tests/faults --ignore-glob='*/test_leaks.py' --ignore-glob='*/test_nginx.py'

.PHONY: help run demo test test-fast test-long test-newest test-lowest chaos soak check docs bench bench-peers format upgrade clean system

help:  ## Show this menu
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 22

run: $(VENV)/.sandbox  ## Set up and start on a throwaway MongoDB: http://localhost:3333
	$(PYTHON) server.py --sandbox

demo: $(VENV)/.sandbox  ## Set up and play the scripted demo: http://localhost:3333
	$(PYTHON) server.py --demo

test: $(VENV)/.dev system  ## Run every test, on a real MongoDB and a real browser
	$(PYTHON) -m pytest

test-fast: $(VENV)/.dev  ## Run the tests that start no MongoDB, browser or server: under a minute
	$(PYTHON) -m pytest -q -m "not mongod and not browser and not process" tests/core tests/http

test-long: $(VENV)/.dev  ## Run the tests that take minutes: millions of changes
	$(PYTHON) -m pytest -m long

test-newest: export PATH := $(CURDIR)/.venv-newest/bin:$(PATH)
test-newest: system  ## Run every test with the newest versions that setup.py allows
	python3 -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade pip
	.venv-newest/bin/python -m pip install --quiet --editable '.[dev]'
	cd tests && npm ci --silent
	.venv-newest/bin/python -m locks.installed
	.venv-newest/bin/python -m pytest

test-lowest: export PATH := $(CURDIR)/.venv-lowest/bin:$(PATH)
test-lowest:  ## Run the server's tests with the lowest versions that setup.py allows
	python3 -m venv --clear .venv-lowest
	.venv-lowest/bin/python $(INSTALL_LOCK) locks/dev.txt
	.venv-lowest/bin/python -m pip install --quiet --only-binary :all: $$(.venv-lowest/bin/python -m locks.lowest)
	$(WITHOUT_BOX) .venv-lowest/bin/python $(INSTALL_PROJECT)
	.venv-lowest/bin/python -m pip check
	cd tests && npm ci --silent
	.venv-lowest/bin/python -m locks.installed
	.venv-lowest/bin/python -m pytest $(LOWEST_TESTS)

check: $(VENV)/.dev  ## Lint, format, types, the npm package and known vulnerabilities
	ruff check .
	ruff format --check .
	mypy
	mypy examples/login/app.py
	mypy examples/sessions/app.py
	tests/node_modules/.bin/tsc --project tests/client
	tests/node_modules/.bin/tsc --project tests/page
	$(PYTHON) -m pytest --quiet tests/client/test_package.py -k "tools_understand or in_a_fresh_project"
	$(PYTHON) -m locks.audit

chaos: $(VENV)/.dev  ## Hurt three mongods and two servers, check what clients were sent: MINUTES=20 SEED=7
	$(PYTHON) -m tests.chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

soak: $(VENV)/.dev  ## Run a server under a fixed load for SOAK_MINUTES=60, and see whether anything grows
	$(PYTHON) -m tests.soak --minutes $(or $(SOAK_MINUTES),60) $(if $(PLOT),--plot $(PLOT)) $(if $(CSV),--csv $(CSV))

docs: .venv-docs/.installed  ## Build the docs as a site: build/site/index.html
	.venv-docs/bin/python -m website.build

bench: $(VENV)/.dev  ## Measure this server beside the C floor
	$(PYTHON) -m bench.run

bench-peers: $(VENV)/.dev  ## Measure it beside servers in Node, Python, Go, nchan and Mercure; renew docs/performance.md
	$(PYTHON) -m bench.install
	$(PYTHON) -m bench.run --peers --report docs/performance.md --plot docs/performance.svg
	$(PYTHON) -m bench.survival

format: $(VENV)/.dev  ## Format the code
	ruff check --fix .
	ruff format .

upgrade: export PATH := $(CURDIR)/.venv-upgrade/bin:$(PATH)
upgrade:  ## Renew the locks, and show what changed
	python3 -m venv --clear .venv-upgrade
	.venv-upgrade/bin/python $(INSTALL_LOCK) locks/upgrade.txt
	.venv-upgrade/bin/python -m locks.upgrade

clean:  ## Remove what was set up
	rm -rf $(VENV) .venv-newest .venv-lowest .venv-upgrade .venv-docs build dist *.egg-info node_modules tests/node_modules

system:
	@tests/system-packages

$(VENV)/bin/python:
	@echo "setting up $(VENV): this fetches packages, once"
	python3 -m venv $(VENV)

.venv-docs/.installed: locks/docs.txt
	python3 -m venv --clear .venv-docs
	.venv-docs/bin/python $(INSTALL_LOCK) locks/docs.txt
	@touch $@

$(VENV)/.sandbox: setup.py locks/run.txt $(VENV)/bin/python
	$(PYTHON) $(INSTALL_LOCK) locks/run.txt
	$(WITHOUT_BOX) $(PYTHON) $(INSTALL_PROJECT)
	@$(PYTHON) -m pip check
	@touch $@

$(VENV)/.dev: setup.py locks/dev.txt tests/package.json tests/package-lock.json $(VENV)/bin/python
	$(PYTHON) $(INSTALL_LOCK) locks/dev.txt
	$(WITHOUT_BOX) $(PYTHON) $(INSTALL_PROJECT)
	@$(PYTHON) -m pip check
	cd tests && npm ci --silent
	@touch $@ $(VENV)/.sandbox
