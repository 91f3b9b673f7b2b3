# `make run` and `make test` work on a bare machine: both create .venv on first use.
PYTHON ?= python3
PRETRAINED := halfcheetah-vel/gru/rl2
ARGS ?= --task-dist halfcheetah-vel --few-shot 1 5 10 --preset smoke --pretrained $(PRETRAINED)

SITE := build/docs
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt
INSTALLED := $(VENV)/.installed
# Three processes keep two cores busy, since tests wait for processes to start and die; one file at a
# time, the longest first (tests/conftest.py). Not --dist loadgroup: pytest 9.2 ignores the group
# names that pytest-xdist 3.8 sets.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# Names and phrases that readers of papers and of Ray would not understand, for `make words`.
WORDS := crews?|conductors?|spelled_out|spelt_out|taken_up|told of|made anew|so many of|for ever|so-manieth|glued|$\
         settle_[a-z]+|FedEpisodes|Keeper|GluedEpisodes

export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: run test pytest slow test-all coverage docs pictures lint words install clean

run: install
	$(BIN)/python -m harness.run $(ARGS)

test: lint pytest

# Everything but the slow tests, without the linters.
pytest: install
	$(PYTEST)

# The tests that `make test` leaves out, except the exhaustive ones (pytest -m exhaustive).
slow: install
	$(PYTEST) -m "slow and not exhaustive"

test-all: test slow

coverage: install
	$(BIN)/python -m pytest -m "not exhaustive" --cov=harness --cov=metarl_plugins --cov=policies --cov=task_distributions --cov-report=term-missing:skip-covered

# The documentation as a site; a warning is an error. Open build/docs/index.html.
docs: install
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs $(SITE)

# The pictures of the README and the documentation; needs a browser, see .ci/install-browser.
pictures: install
	$(BIN)/python docs/make_adaptation_film.py
	$(BIN)/python docs/make_imujoco_page.py
	$(BIN)/python docs/make_page_pictures.py
	$(BIN)/python docs/make_task_cards.py

lint: install words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

# Succeeds only when git grep finds nothing (status 1); other failures stay failures.
words:
	@git grep -niIE '(^|[^[:alpha:]])($(WORDS))([^[:alpha:]]|$$)' -- '*.py' '*.md'; test $$? -eq 1

install: $(INSTALLED)

# The stamp is written last, so that an interrupted installation starts again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e ".[all,test]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
