# Every target makes the environment it needs: `make demo` works in a fresh clone with Python and nothing else.
# Options: PYTHON=python3.13 (which Python makes .venv), ARGS=... (handed on to the command), JOBS=4 (processes of tests).

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
BENCHES ?= accuracy experiment publish speed
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
LOCK := requirements.lock
OLDEST := build/venv-oldest
OLDEST_LOCK := requirements-oldest.lock
OLDEST_TESTS := tests/documents tests/callbacks tests/publish

# Extras and dependency groups that each stamp adds to the one environment.
PARTS_demo := demo
PARTS_docs := demo docs
PARTS_lint := lint
PARTS_test := all test

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
INSTALL_PROJECT := $(PIP_INSTALL) --no-deps --no-build-isolation -e .

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help env demo test test-all test-oldest check resolve bench docs lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMPS)/all  ## make .venv with everything in it: all extras, the tools of tests, checks and documentation

demo: $(STAMPS)/demo  ## measure, predict, publish and read back on the simulated beamline
	$(BIN)/xpdml demo $(ARGS)

test: $(STAMPS)/test  ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

test-all: $(STAMPS)/test  ## run the slow tests as well
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-oldest: $(OLDEST)/.installed  ## test documents, callbacks and publishing with the oldest versions we promise
	$(OLDEST)/bin/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(OLDEST_TESTS) $(ARGS)

check: $(STAMPS)/lint  ## lint, check the format, the types, the import layers and the lock
	$(BIN)/python tools/lock.py check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tools
	$(BIN)/lint-imports

resolve: $(STAMPS)/base  ## resolve the lock, installing nothing, on each other Python of this computer
	$(BIN)/python tools/pythons.py resolve

bench: $(STAMPS)/test  ## print the benchmark tables
	set -e; for name in $(BENCHES); do $(BIN)/xpdml bench $$name $(ARGS); done

docs: $(STAMPS)/docs  ## build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

# Versions stay as they are where they fit; `make lock ARGS=--upgrade` takes the newest ones.
UV_LOCK := $(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11.0 pyproject.toml
lock: $(STAMPS)/base  ## write the locks anew after a change of dependencies
	$(BIN)/python $(PIP_INSTALL) -c $(LOCK) uv
	$(UV_LOCK) --extra all --group dev --output-file $(LOCK) $(ARGS)
	$(UV_LOCK) --extra databroker --extra demo --group test --resolution lowest-direct --output-file $(OLDEST_LOCK) $(ARGS)
	$(BIN)/python tools/lock.py seal

clean:  ## remove the environments and everything that was built
	rm -rf $(VENV) build dist docs/_build docs/_generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# A stamp is written last, so that an interrupted installation is taken up again.
$(STAMPS)/all: $(STAMPS)/base pyproject.toml
	@echo "Installing everything into $(VENV); the first time this takes some minutes."
	$(BIN)/python $(PIP_INSTALL) -r $(LOCK)
	$(BIN)/python $(INSTALL_PROJECT)
	@touch $(STAMPS)/demo $(STAMPS)/docs $(STAMPS)/lint $(STAMPS)/test $@

$(STAMPS)/demo $(STAMPS)/docs $(STAMPS)/lint $(STAMPS)/test: $(STAMPS)/base pyproject.toml
	@echo "Installing what '$(@F)' needs into $(VENV); the first time this takes some minutes."
	@$(BIN)/python tools/lock.py list $(PARTS_$(@F)) > $@.txt
	$(BIN)/python $(PIP_INSTALL) -c $(LOCK) -r $@.txt
	$(BIN)/python $(INSTALL_PROJECT)
	@touch $@

# Here only: pip, and what builds the project and reads its requirements.
$(STAMPS)/base: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: expected Python 3.11 or newer as '$(PYTHON)', found '$$($(PYTHON) --version 2>&1)'." >&2; \
	  echo "make: install one, or name it: make PYTHON=python3.12 env" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -c $(LOCK) pip editables hatchling packaging
	@mkdir -p $(STAMPS) && touch $@

$(OLDEST)/.installed: pyproject.toml $(OLDEST_LOCK)
	@echo "Installing the oldest versions into $(OLDEST); the first time this takes some minutes."
	rm -rf $(OLDEST)
	python=$$($(PYTHON) tools/pythons.py oldest) && $$python -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP_INSTALL) -r $(OLDEST_LOCK)
	$(OLDEST)/bin/python $(INSTALL_PROJECT)
	@touch $@
