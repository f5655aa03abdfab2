# Every target makes the environment it needs: `make demo` works in a fresh clone with Python and nothing else.
# Options: PYTHON=python3.13 (which Python makes .venv), ARGS=... (handed on to the command), JOBS=4 (processes of tests).

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
BENCHES ?= accuracy experiment publish speed
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all check bench docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP)  ## make .venv with the pinned versions, unless it is there already

demo: $(STAMP)  ## measure, predict, publish and read back on the simulated beamline
	$(BIN)/xpdml demo $(ARGS)

test: $(STAMP)  ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist loadfile $(ARGS)

test-all: $(STAMP)  ## run the slow tests as well
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(STAMP)  ## lint, check the format, the types and the import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## print the benchmark tables
	set -e; for name in $(BENCHES); do $(BIN)/xpdml bench $$name $(ARGS); done

docs: $(STAMP)  ## build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html $(ARGS)

clean:  ## remove .venv and everything that was built
	rm -rf $(VENV) build dist docs/_build docs/_generated .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The stamp is written last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: expected Python 3.11 or newer as '$(PYTHON)', found '$$($(PYTHON) --version 2>&1)'." >&2; \
	  echo "make: install one, or name it: make PYTHON=python3.12 env" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@
