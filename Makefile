# Two commands do everything on a fresh machine: `make reproduce` and `make test`.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Torch's helper threads spin against other processes and slow small operators by a factor of ten and more.
export OMP_NUM_THREADS ?= 1
export DVC_NO_ANALYTICS ?= 1

.PHONY: reproduce test pipeline lint format install clean

reproduce: $(STAMP)  ## data, training, measuring and the report, on embedded synthetic data
	$(BIN)/snakemake --cores $(CORES)
	@echo "Report: reports/published/index.html"

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n $(CORES)

pipeline: $(STAMP)  ## part of the pipeline: make pipeline TARGET=accuracy [CONFIG=workflows/config/cmu.yaml]
	$(BIN)/snakemake --cores $(CORES) $(if $(CONFIG),--configfile $(CONFIG)) $(TARGET)

lint: $(STAMP)  ## style, import rules, workflow format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflows

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile workflows

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[pipeline,dev]'
	touch $@

clean:  ## forget the environment; results stay
	rm -rf $(VENV)
