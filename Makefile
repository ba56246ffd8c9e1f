# Two targets for newcomers: `make demo` and `make test`. They share a virtual
# environment, .venv, which is made the first time. Other tiers that need more have
# environments of their own: `make test-parity` PyTorch (2 GB), `make test-tpu-aot`
# libtpu (2 GB), `make test-flax-providers` the last Flax classes of diffusers;
# `make test-browser` needs Chromium.
#
# PYTHON=... chooses the interpreter; by default it is the newest supported one that
# runs (pyenv has names of interpreters that do not).
SUPPORTED = import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
ifndef PYTHON
PYTHON := $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,\
  $(shell $(name) -c "$(SUPPORTED)" 2>/dev/null && echo $(name))) false)
endif
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity
AOT := .venv-aot
PROVIDERS := .venv-flax-providers
BROWSER := .browser
DEMO := out/demo

.PHONY: interpreter demo test test-default-flags test-hostile test-flax-providers \
  test-parity test-tpu-aot test-browser screenshot lint format clean

$(VENV)/.installed: requirements.txt | interpreter
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

$(PARITY)/.installed: requirements-parity.txt requirements.txt | interpreter
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --quiet -r requirements-parity.txt
	$(PARITY)/bin/pip install --quiet --no-deps torch-fidelity==0.3.0
	touch $@

$(PROVIDERS)/.installed: requirements-flax-providers.txt requirements.txt | interpreter
	$(PYTHON) -m venv $(PROVIDERS)
	$(PROVIDERS)/bin/pip install --quiet -r requirements-flax-providers.txt
	touch $@

$(AOT)/.installed: requirements-aot.txt requirements.txt | interpreter
	$(PYTHON) -m venv $(AOT)
	$(AOT)/bin/pip install --quiet -r requirements-aot.txt
	touch $@

$(BROWSER)/.installed: $(VENV)/.installed-dev requirements-browser.txt \
		tests/browser/install.py
	$(BIN)/pip install --quiet -r requirements-browser.txt
	$(BIN)/python tests/browser/install.py $(BROWSER)
	touch $@

interpreter:
	@$(PYTHON) -c "$(SUPPORTED)" 2>/dev/null || { echo "PYTHON=$(PYTHON): Python 3.11," \
	  "3.12 or 3.13 is needed; name one with PYTHON=/path/to/python" >&2; exit 2; }

demo: $(VENV)/.installed  ## text -> views -> GLB and its page, nano weights
	$(BIN)/python launch.py sample --config=configs/nano.py --reconstruct \
	  --prompt="a brown wood chair" --views=8 --out=$(DEMO)

test: $(VENV)/.installed-dev  ## every fast test, Python only
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-default-flags: $(VENV)/.installed-dev  ## programs compiled as users compile them
	JAX_DISABLE_MOST_OPTIMIZATIONS=false $(BIN)/python -m pytest -n 2 --dist loadfile \
	  @tests/default_flags/arguments.txt

test-hostile: $(VENV)/.installed-dev  ## attacks on every command, and killed runs
	$(BIN)/python -m pytest -n 2 tests/hostile

test-flax-providers: $(PROVIDERS)/.installed  ## the Flax classes of older releases
	$(PROVIDERS)/bin/python -m pytest tests/flax_providers

test-parity: $(PARITY)/.installed  ## live comparison with today's PyTorch diffusers
	$(PARITY)/bin/python -m pytest tests/parity

test-tpu-aot: $(AOT)/.installed  ## compile for TPUs, on any machine
	$(AOT)/bin/python -m pytest -n 2 tests/tpu_aot

test-browser: $(BROWSER)/.installed  ## pages in Chromium, assets in the validator
	$(BIN)/python -m pytest tests/browser

screenshot: demo $(BROWSER)/.installed  ## docs/figures/page.png
	$(BIN)/python tests/browser/screenshot.py \
	  $(DEMO)/a-brown-wood-chair-0/index.html docs/figures/page.png

lint: $(VENV)/.installed-dev  ## style, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/codespell

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv* $(BROWSER) .pytest_cache .ruff_cache
