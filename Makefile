# Users: `make demo`. Developers: `make test`, `make check`, `make bench`.
.DELETE_ON_ERROR:
.PHONY: demo test test-slow test-gpu check format readme bench peers clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := $(VENV)/peers
CONSTRAINTS := .ci/constraints.txt
INSTALL := --disable-pip-version-check install --quiet
PIP := $(BIN)/pip $(INSTALL)

# a stamp for each set of packages: made anew when what is asked for has changed
$(VENV)/plain: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c $(CONSTRAINTS) -e . scikit-image
	touch $@

$(VENV)/dev: $(VENV)/plain
	$(PIP) -c $(CONSTRAINTS) -e '.[dev,train,models]'
	touch $@

demo: $(VENV)/plain
	$(BIN)/python scripts/demo.py

# two workers: libraries that would take all cores in each are slower so
test test-slow: export OMP_NUM_THREADS = 1

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

# what is not installed is listed as such
bench: $(VENV)/dev
	-$(MAKE) --keep-going peers
	for script in scripts/bench/*.py; do $(BIN)/python $$script || exit; done

# other projects' fills, in environments of their own: their packages exclude ours and each other's. G'MIC is a program:
# apt-get install gmic
peers: $(PEERS)/pixel/made $(PEERS)/iopaint/made

$(PEERS)/pixel/made: scripts/bench/peers/pixel.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip $(INSTALL) -r $<
	touch $@

# the last torchvision that loads beside a torch without CUDA; it asks for an older torch, and does not need it
$(PEERS)/iopaint/made: scripts/bench/peers/iopaint.txt $(CONSTRAINTS)
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/pip $(INSTALL) -c $(CONSTRAINTS) -r $<
	$(@D)/bin/pip $(INSTALL) --no-deps torchvision==0.15.2
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
