# Two targets for newcomers: `make demo` and `make test`. They share a virtual
# environment, .venv, which is made the first time; `make test-parity` has one of
# its own, .venv-parity, with PyTorch (2 GB).
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PARITY := .venv-parity

.PHONY: demo test test-parity lint format clean

$(VENV)/.installed: requirements.txt requirements-core.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

$(PARITY)/.installed: requirements-parity.txt requirements-core.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --quiet -r requirements-parity.txt
	touch $@

demo: $(VENV)/.installed  ## text -> consistent views, from the nano weights
	$(BIN)/python launch.py sample --config=configs/nano.py \
	  --prompt="a red leather sofa" --views=4 --out=out/demo

test: $(VENV)/.installed-dev  ## every fast test, Python only
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-parity: $(PARITY)/.installed  ## live comparison with today's PyTorch diffusers
	$(PARITY)/bin/python -m pytest tests/parity

lint: $(VENV)/.installed-dev  ## style, types, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(PARITY) .pytest_cache .ruff_cache
