# One environment in .venv, made from constraints.txt; every target makes it if need be.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

$(VENV)/.ready: pyproject.toml setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/.ready  ## chest MAE -> shoulder fine-tune -> test -> one HTML page, on phantoms
	$(BIN)/xrayssl demo

test: $(VENV)/.ready  ## the whole suite; files go to a worker whole, so that what they share is trained once
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.ready  ## every program in benchmarks/, briefly
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps lightly==1.6.0  # what methods.py compares with
	for program in benchmarks/*.py; do $(BIN)/python $$program --quick || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info
