# Two commands: `make run` and `make test`. Both build .venv on first use; the second run is fast.
PYTHON ?= python3
ARGS ?= --task-dist halfcheetah-vel --few-shot 1 5 10 --preset smoke

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
INSTALLED := $(VENV)/.installed
# Two processes, file by file in the order that tests/conftest.py gives: the longest first. By file and
# not by group (--dist loadgroup): pytest 9.2 ignores the names by which pytest-xdist 3.8 marks groups.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: run test slow test-all coverage lint install clean

run: install
	$(BIN)/python -m harness.run $(ARGS)

test: lint
	$(PYTEST)

# What `make test` leaves out, the exhaustive ones apart (those: pytest -m exhaustive).
slow: install
	$(PYTEST) -m "slow and not exhaustive"

test-all: test slow

coverage: install
	$(BIN)/python -m pytest -m "not exhaustive" --cov=harness --cov=policies --cov=task_distributions --cov-report=term-missing:skip-covered

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

# The stamp is written last: an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e ".[test,app]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
