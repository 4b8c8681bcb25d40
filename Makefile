# Users: `make demo`. Developers: `make test`, `make check`, `make bench`.
.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-gpu check format readme bench clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := .ci/constraints.txt
PIP := $(BIN)/pip --disable-pip-version-check install --quiet

# a stamp for each set of packages: made anew when what is asked for has changed
$(VENV)/plain: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c $(CONSTRAINTS) -e . scikit-image
	touch $@

$(VENV)/dev: $(VENV)/plain
	$(PIP) -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: $(VENV)/plain
	$(BIN)/python scripts/demo.py

test: $(VENV)/dev
	$(BIN)/pytest -n 2 -m "not slow and not gpu"

test-slow: $(VENV)/dev
	$(BIN)/pytest -n 2 -m slow $(if $(SLICE),--slice $(SLICE))

test-gpu: $(VENV)/dev
	$(BIN)/pytest -m gpu

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/readme.py --check

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

readme: $(VENV)/dev
	$(BIN)/python scripts/readme.py

bench: $(VENV)/dev
	for script in scripts/bench/*.py; do $(BIN)/python $$script || exit; done

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
