# make demo and make test are the two commands; both set up what they need, in one environment: make demo installs what
# the demo takes, make test adds the rest. PYTHON=python3.12 make setup chooses the interpreter, 3.10 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
DEMO_STAMP := $(VENV)/.demo-stamp
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST_ARGS ?=
BENCH_ARGS ?=

.PHONY: help setup demo test check docs bench lint format clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(STAMP)  ## .venv with everything in it; again only when pyproject.toml changes

$(STAMP): $(VENV)/.torch-stamp pyproject.toml
	@echo "setup: what tests need: pytest, pyright, transformers, ONNX and others; some minutes"
	$(PIP) -e '.[dev]'
	@touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): $(VENV)/.torch-stamp pyproject.toml
	@echo "setup: what the demo needs: Ray, PyArrow, PyAV, a local S3 server; a minute or two"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.torch-stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "make setup needs Python 3.10 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1)."; \
		echo "Choose another: make setup PYTHON=python3.12"; exit 1; }
	@echo "setup: a virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@$(PIP) "pip>=23" "setuptools>=77"
	@# Without an NVIDIA driver the CPU build of torch does, at a tenth of the size. It is taken from PyTorch's own index
	@# (or a folder in PIP_FIND_LINKS) and from no other, which may have a later release for NVIDIA. Where neither has
	@# it, the lines above take whatever build pip is configured for.
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && \
		! $(BIN)/python -c 'import torch' >/dev/null 2>&1; then \
		echo "setup: torch for CPUs (a download of 200 MB)"; \
		PIP_CONFIG_FILE=/dev/null $(PIP) --retries 1 \
			--timeout 15 --index-url https://download.pytorch.org/whl/cpu --no-deps --only-binary torch 'torch>=2.10,<2.16' \
			2>/dev/null || echo "the CPU build of torch could not be chosen; taking pip's own"; fi
	@touch $@

demo: $(DEMO_STAMP)  ## a corpus, training on this machine's CPU, a kill, a resume, a report
	$(BIN)/adaptfocus demo

test: setup lint  ## all checks and all tests; PYTEST_ARGS='-k storage' chooses
ifeq ($(PYTEST_ARGS),)
	$(BIN)/python tests/everything.py -q --durations=15
else
	$(BIN)/python -m pytest -q --durations=15 $(PYTEST_ARGS)
endif

check: setup lint  ## ruff, pyright and the quick tests, four to five minutes: before each commit
	$(BIN)/python -m pytest -q -m quick $(PYTEST_ARGS)

docs: setup  ## the site, in site/, strictly: a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html; with a search: $(BIN)/python -m http.server --directory site"

bench: setup  ## the figures of docs/performance.md and docs/scale.md, quickly; BENCH_ARGS='--json' for other programs
	for name in decode fetch pipeline isolation extract focus_overhead step commit_stall store_faults fuzz webscale growth scaling.after_training; do $(BIN)/python -m benchmarks.$$name --quick $(BENCH_ARGS) || exit 1; done

lint: setup  ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup  ## let ruff write
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment, caches and what the demo made
	rm -rf $(VENV) demo-out site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
