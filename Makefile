# The two commands of the README, and what they are made of.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.complete

.PHONY: venv sweep test check clean

venv: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -c "import torch, ray, mlflow, optuna, pytest, safetensors"
	touch $@

sweep: venv
	$(BIN)/python run_sweep.py demo

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder --durations 25

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
