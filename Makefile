# Needs make and Python 3.11 or newer, nothing else: no PostgreSQL, no Docker, no compiler.
VENV := .venv
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
# Two workers share the machine's two cores; tests of one file share their servers.
PYTEST_ARGS ?= -n 2 --dist loadfile
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check install --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lstm slow test-ui versions stress survival assets down clean

help:  ## show this
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/demo.stamp  ## the whole loop on five real servers; ONCE=1 approves by itself and ends, KILL=... crashes it on the way
	$(VENV)/bin/foreshard demo $(if $(ONCE),--once) $(if $(KILL),--kill $(KILL))

test: $(VENV)/test.stamp  ## ruff, mypy, import rules and tests on real servers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS) -m "not slow and not survival and not ui"

lstm: $(VENV)/test.stamp  ## PyTorch too, for the model of that name and its tests: a large download
	$(PIP) --editable '.[lstm]'

slow: $(VENV)/test.stamp  ## the tests that take longest: failovers, several migrations at once
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS) -m slow

test-ui: $(VENV)/ui.stamp  ## a person's way through the Prefect UI, in Chromium on the real stack; pictures in build/ui
	@$(VENV)/bin/python -m tests.chromium
	$(VENV)/bin/python -m pytest tests/ui -m ui --exitfirst

survival: $(VENV)/test.stamp  ## kill -9 of Prefect, of the serving process, of a worker, at every moment of a migration: half an hour
	$(VENV)/bin/python -m pytest tests/survival -m "slow or survival"

versions: $(VENV)/test.stamp  ## PostgreSQL 16, 17 and 18 in every pairing: migrate, reverse, abort; prints the table of docs/versions.md
	@mkdir -p build
	$(VENV)/bin/python -m pytest tests/integration/test_versions.py tests/integration/test_keys_match_postgres.py --junitxml=build/versions.xml
	@$(VENV)/bin/python -m tests.versions_table build/versions.xml

stress: $(VENV)/test.stamp  ## flips under writers, fences broken on purpose, failover, kill -9; FLIPS=300 SEED=1 PARTS=flips,controls,failover,kills JSON=file
	$(VENV)/bin/python -m tests.stress --flips $(or $(FLIPS),300) --seed $(or $(SEED),1) $(if $(PARTS),--only $(PARTS)) $(if $(JSON),--json $(JSON))

assets: $(VENV)/test.stamp  ## fetch what Data Docs load again from npm and compare; UPDATE=1 takes other versions
	$(VENV)/bin/python -m data_checks.renew_assets $(if $(UPDATE),--update)

down:  ## stop everything a demo left running and remove its data
	@if [ -x $(VENV)/bin/foreshard ]; then $(VENV)/bin/foreshard down; else echo "Nothing was installed, nothing runs."; fi

clean: down  ## the same, and remove the virtual environment and caches
	rm -rf $(VENV) .foreshard build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Try: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is too old: Python 3.11 or newer is needed. Try: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "$(PYTHON) cannot make a virtual environment; on Debian install the package python3-venv."; exit 1; }

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/demo.stamp

$(VENV)/ui.stamp: $(VENV)/test.stamp
	$(PIP) --editable '.[test,ui]'
	@touch $@
