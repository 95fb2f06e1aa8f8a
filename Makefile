# One environment for users (.venv); the test tools and the benchmark's rival are added to it by the targets that need them.
# Variables given to make reach pip, so PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu gets PyTorch's CPU build.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Neighbours in a file share what they prepare, so each process gets half of the tests in their order, and takes from
# the other once it is done.
TWO := -n 2 --dist worksteal
# Byte code is kept, whatever the shell says: tests start a hundred processes, and pytest rewrites each test's file.
test test-slow test-crash: export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-crash test-python lint docs bench bench-check clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-11s %s\n", $$1, $$2}'

# Stamps keep a second call from asking pip again; they are older than what they depend on after a change.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(PIP) --editable '.[bench]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	touch $@

install: $(VENV)/.installed  ## make .venv and install varshare into it

demo: $(VENV)/.installed  ## train VarShare on five CartPoles, ten to twenty seconds
	$(BIN)/varshare fit --config complex_cartpole

test: $(VENV)/.installed-test  ## run the fast tests
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-slow: $(VENV)/.installed-test  ## run the slow tests: learning runs with a known answer and the like
	$(BIN)/python -m pytest $(TWO) -m slow

test-crash: $(VENV)/.installed-test  ## kill commands at each of their file operations; about half an hour
	VARSHARE_CRASH_EVERY=1 $(BIN)/python -m pytest $(TWO) -m slow tests/crash

test-python:  ## run all tests on another Python, in an environment of its own: make test-python PYTHON=3.13
	$(if $(filter 3.%,$(PYTHON)),,$(error PYTHON=$(PYTHON): a version is needed, as in: make test-python PYTHON=3.13))
	$(MAKE) test test-slow VENV=.venv-$(PYTHON) PYTHON=python$(PYTHON)

lint: $(VENV)/.installed-test  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable

docs: $(VENV)/.installed-docs  ## build the documentation into site/; open site/index.html
	$(BIN)/python docs/make_site.py

bench: $(VENV)/.installed-bench  ## measure speed beside Stable-Baselines3; about an hour
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/.installed-bench  ## compare the quick speed ratios with the recorded ones
	$(BIN)/python -m benchmarks check

clean:  ## remove the environment and caches
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache build dist
