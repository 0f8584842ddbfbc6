# make demo        from nothing to edited pictures in demo/
# make test        lint and tests, in the same environment
# make notebooks   run the notebooks in full, and store what they show in them
# make docs        docs/api.md from the docstrings, docs/commands.md from --help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint notebooks format docs clean

demo: $(VENV)/.installed
	$(BIN)/facelatent demo --out demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(VENV)/.dev
	$(BIN)/python notebooks/execute.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch is named in the same command as everything else, so that nothing pulls another build of it.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 --editable

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(INSTALL) '.[dev]'
	touch $@

docs: $(VENV)/.dev
	$(BIN)/python docs/make_api.py
	$(BIN)/python docs/make_commands.py

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
