# ReSTE Reproduced. `make` alone lists the targets; `make -n TARGET` prints the exact commands.
#
# The first target that needs Python creates .venv and fills it from pyproject.toml; the next ones find it ready.
#   make reproduce-table1 PYTHON=/path/to/python    uses an environment that is there already, and installs nothing
#   make reproduce-table1 TORCH_INDEX=<index URL>   takes torch from that index (the CPU-only one that pytorch.org shows)
#   make .venv/bin/python BASE_PYTHON=python3.12    chooses the interpreter that .venv is made from

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

ITEMS := table1 table2 table3 figure1 figure2 figure3 figure4 figure5 figure6 why order lemma deploy

# --- what a reproduction takes: set on the command line; the last four also from the environment ---------------------
PROFILE := demo
ROWS :=
EPOCHS :=
SEEDS :=
SET :=
DEVICE :=
DATA_DIR ?=
RUNS_DIR ?=
RESULTS_DIR ?=
WANDB_MODE ?=

ITEM :=
PYTEST_ARGS ?=
TEST_JOBS ?= 2
BASE_PYTHON ?=
TORCH_INDEX ?=
JUPYTER_ARGS ?=
PORT ?=
BY_HAND := $(filter command,$(origin PYTHON))
PYTHON ?=

# A misspelt variable would otherwise be taken, and nothing would come of it.
VARIABLES := PROFILE ROWS EPOCHS SEEDS SET DEVICE DATA_DIR RUNS_DIR RESULTS_DIR WANDB_MODE ITEM PYTHON PYTEST_ARGS \
  TEST_JOBS BASE_PYTHON TORCH_INDEX JUPYTER_ARGS PORT
$(foreach v,$(filter-out -%,$(.VARIABLES)),$(if $(filter command,$(origin $v)),$(if $(filter $v,$(VARIABLES)),,$(error \
  no variable '$v'; the variables are: $(VARIABLES). Others go before the command: NAME=VALUE make ...))))

# Their text as it was given, `$$` and all; `$(call q,NAME)` is that as one word of the shell, whatever it holds.
$(foreach v,$(VARIABLES),$(eval override $v := $$(value $v)))
q = '$(subst ','\'',$($1))'

# --- the environment -------------------------------------------------------------------------------------------------
ifneq ($(BY_HAND),)
CORE :=
BENCH :=
DEV :=
else
override PYTHON := .venv/bin/python
CORE := .venv/.installed-core
BENCH := .venv/.installed-bench
DEV := .venv/.installed-dev
endif

.venv/.installed-app: EXTRAS := [app]
.venv/.installed-bench: EXTRAS := [bench,export,cluster]
.venv/.installed-dev: EXTRAS := [dev,app,cluster,export,integrations,hub]
.venv/.installed-dev: ALSO := .venv/.installed-app

PYTHONS := python3 python3.14 python3.13 python3.12 python3.11

.venv/bin/python:
	@for p in $(if $(BASE_PYTHON),$(call q,BASE_PYTHON)) $(PYTHONS); do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$$p; break; fi; \
	done; \
	if [ -z "$$base" ]; then \
	  echo "make: no Python 3.11 or later found (tried" $(call q,BASE_PYTHON) "$(PYTHONS))." >&2; \
	  echo "      Install one and name it: make BASE_PYTHON=/path/to/python3.11 ..." >&2; exit 1; \
	fi; \
	echo "$$base -m venv .venv"; \
	"$$base" -m venv .venv || { rm -rf .venv; echo "make: '$$base -m venv' failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

# uv where it is there: some ten times faster than pip. Both show what they download.
INSTALL = $(if $(shell command -v uv),uv pip install --python .venv/bin/python,.venv/bin/python -m pip install)

# A stamp for each set of extras; every set contains the core, and dev the app.
.venv/.installed-%: pyproject.toml | .venv/bin/python
	@echo "Filling .venv from pyproject.toml: a new one downloads about 3.2 GB (torch with CUDA; TORCH_INDEX names another build)"
	@echo "and takes about 7 GB of disk; free here: $$(df -hP . | awk 'NR == 2 {print $$4}')."
	@command -v uv >/dev/null || .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip
	$(if $(TORCH_INDEX),$(INSTALL) --index-url $(call q,TORCH_INDEX) torch torchvision)
	$(INSTALL) --editable '.$(EXTRAS)'
	@touch .venv/.installed-core $(ALSO) $@

# --- commands --------------------------------------------------------------------------------------------------------
option = $(if $($2), $1 $(call q,$2))
PY = $(call q,PYTHON)
RUN = $(if $(WANDB_MODE),WANDB_MODE=$(call q,WANDB_MODE) )$(PY) -m resteutils
DATA = $(call option,--data-dir,DATA_DIR)
PLACES = $(call option,--runs-dir,RUNS_DIR)$(call option,--results-dir,RESULTS_DIR)
OPTIONS = --profile $(call q,PROFILE)$(call option,--rows,ROWS)$(call option,--epochs,EPOCHS)$(call \
  option,--seeds,SEEDS)$(call option,--set,SET)$(call option,--device,DEVICE)$(DATA)$(PLACES)

.PHONY: help reproduce $(addprefix reproduce-,$(ITEMS)) report list lab explore app test test-faults lint format bench bench-full doctor verify-models test-slurm test-arm test-gpu gpu-acceptance clean

help: ## this list
	@echo "ReSTE Reproduced: make TARGET [PROFILE=demo|smoke|short|paper] [ROWS=a,b] [EPOCHS=n] [SEEDS=0,1,2] [SET=lr=0.05]"
	@echo "                  [DEVICE=cpu|cuda] [DATA_DIR=...] [RUNS_DIR=...] [RESULTS_DIR=...] [WANDB_MODE=offline|online|disabled] [PYTHON=...]"
	@echo
	@sed -n 's/^\([a-z][a-z<>-]*\):[^#]*## \(.*\)/\1|\2/p; s/^## \(reproduce-<item>\): \(.*\)/\1|\2/p' Makefile \
	  | awk -F'|' '{printf "  %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  items: $(ITEMS)"

reproduce: $(CORE) ## every table and figure, then the report; continues after an interruption
	$(RUN) reproduce all $(OPTIONS)

## reproduce-<item>: one table or figure: results/<profile>/<item>/
$(addprefix reproduce-,$(ITEMS)): reproduce-%: $(CORE)
	$(RUN) reproduce $* $(OPTIONS)

reproduce-%:
	@echo "make: no item '$*'; the items are: $(ITEMS)" >&2; exit 2

report: $(CORE) ## one static HTML site of all results: results/report/index.html
	$(RUN) report$(call option,--results-dir,RESULTS_DIR)

list: $(CORE) ## items, their notebooks and sizes, finished runs; ITEM=table1 for its rows
	$(RUN) list$(if $(ITEM), $(call q,ITEM) --profile $(call q,PROFILE))$(PLACES)

# Whoever works as root, as in most containers, has decided so already; the server listens on this machine only.
LAB = $(PY) -m jupyterlab --config=.jupyter/jupyter_server_config.py$(if $(filter 0,$(shell id -u)), --allow-root)$(if $(JUPYTER_ARGS), $(JUPYTER_ARGS))

lab: $(CORE) ## open JupyterLab on the notebooks; JUPYTER_ARGS="--no-browser" prints the address instead
	$(LAB) notebooks

explore: $(CORE) ## open the explorer (sliders over the estimators) in JupyterLab
	$(LAB) notebooks/explore_reste.ipynb

app: $(CORE) ## serve the explorer's page, without a kernel, on this machine only; PORT=8866
	$(PY) -m resteutils.explorer.serve$(if $(PORT), --port $(call q,PORT))$(if $(RESULTS_DIR), --results-dir $(call q,RESULTS_DIR))

# One thread a process: two pytest workers then share two cores fairly, and results do not depend on the machine's size.
test: $(DEV) ## the whole test suite, TEST_JOBS=2 files at a time; PYTEST_ARGS="-k layers" for a part of it
	OMP_NUM_THREADS=1 WANDB_MODE=disabled $(PY) -m pytest -n $(call q,TEST_JOBS) --dist loadfile $(PYTEST_ARGS)

test-faults: $(DEV) ## kills, failing disks, flipped bits and more, all tries: survived / tried by kind; `make test` has a few of each
	FAULTS=full OMP_NUM_THREADS=1 WANDB_MODE=disabled $(PY) -m pytest -m faults tests $(PYTEST_ARGS)

lint: $(DEV) ## ruff over code and notebooks; notebooks carry no outputs
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m nbstripout --keep-id --verify notebooks/*.ipynb
	$(PY) -m pytest -q -p no:cacheprovider tests/notebooks/test_hygiene.py tests/project/test_floors.py

format: $(DEV) ## let ruff and nbstripout put code and notebooks in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PY) -m nbstripout --keep-id notebooks/*.ipynb

bench: $(BENCH) ## the ratios of docs/speed.md, side by side, about half an hour: results/bench/
	$(RUN) bench

bench-full: $(BENCH) ## every measurement, scaling included
	$(RUN) bench --full

doctor: $(CORE) ## is this machine ready? each line says ok, warning or what to do
	$(RUN) doctor$(DATA)$(PLACES)

verify-models: $(CORE) ## load every model of results/models strictly and re-score it against its card
	$(RUN) verify-models$(DATA)$(call option,--results-dir,RESULTS_DIR)

test-gpu: $(DEV) ## the GPU paths on a CUDA runtime that computes nothing (Linux, gcc, a CUDA build of torch)
	OMP_NUM_THREADS=1 WANDB_MODE=disabled $(PY) -m pytest tests/gpu --fakecuda $(PYTEST_ARGS)

gpu-acceptance: $(CORE) ## on a GPU, under eight minutes: are its numbers right, and how fast is it? results/gpu/
	$(PY) -m benchmarks.gpu.material $(call option,--data-dir,DATA_DIR)
	$(PY) -m benchmarks.gpu

test-slurm: $(DEV) ## fan a smoke item out over a real Slurm of two nodes (root; Debian's slurm-wlm and munge)
	PYTHON=$(PY) sh tests/slurm/run.sh

test-arm: $(DEV) ## the NEON kernels under emulation, four minutes (Debian's qemu-user and g++-aarch64-linux-gnu)
	PYTHON=$(PY) PYTEST_ARGS=$(call q,PYTEST_ARGS) sh tests/arm/run.sh

clean: ## remove caches and the demo and smoke results; runs/, .venv and committed results stay
	rm -rf results/demo results/smoke results/report build dist .pytest_cache .ruff_cache .hypothesis
	find resteutils tests notebooks benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find notebooks -name .ipynb_checkpoints -prune -exec rm -rf {} + 2>/dev/null || true
