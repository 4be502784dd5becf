# Two commands for a stranger: `make train` and `make test`. Everything else is here because a developer types it often.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

DEMO_MODEL := checkpoints/embedded_sp500/model_best.pt

.DEFAULT_GOAL := help
.PHONY: help setup train trade-demo learnability test test-slow check format bench race docs clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.run: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tactician needs Python 3.11 or newer; name one with make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Adding what the tests need"
	$(PIP_INSTALL) -e '.[dev,oracle,cluster,alpaca]'
	@touch $@

setup: $(VENV)/.run ## make the virtual environment

train: $(VENV)/.run ## train an ensemble on the embedded market: cache, training, verdict (2 to 4 minutes)
	$(BIN)/tactician build-cache --config embedded_sp500
	$(BIN)/tactician train --config embedded_sp500 --members 8 --timesteps 400000

trade-demo: $(VENV)/.run ## the cycle of live trading over a past year, beside the backtest; then one signal (a minute)
	@test -e $(DEMO_MODEL) || $(MAKE) train
	$(BIN)/tactician trade replay --checkpoint $(DEMO_MODEL) --from 2022-01-03
	$(BIN)/tactician signal --checkpoint $(DEMO_MODEL) --on 2022-12-29

learnability: $(VENV)/.run ## train on markets whose best policy is known (all variants and costs: hours; goes on where it stopped)
	$(BIN)/tactician learnability --variants all --sweep --out benchmarks/results/learnability.json

test: $(VENV)/.dev ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n logical --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.dev ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_docs_claims.py

format: $(VENV)/.dev ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## check what README and docs claim, and rewrite docs/configuration.md
	$(BIN)/python docs/make_configuration.py
	$(BIN)/python -m pytest tests/test_docs_claims.py

bench: $(VENV)/.dev ## measure throughput on this machine, beside sb3-contrib
	$(PIP_INSTALL) -e '.[dev,oracle,cluster,alpaca,peer]'
	$(BIN)/python benchmarks/bench_training.py

race: $(VENV)/.run ## race against recurrent PPO of others: speed, then learning (hours; learning goes on where it stopped)
	$(PIP_INSTALL) -e '.[peer]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/race/race.py speed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/race/race.py learning

clean: ## remove the virtual environment and tool caches, not data or checkpoints
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
