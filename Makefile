# The two commands of the README, and what they are made of.
PYTHON ?= $(firstword $(foreach version,3.11 3.12 3.13,$(shell command -v python$(version))) python3)
BIN := .venv/bin
STAMP := .venv/.complete
# Where Python may not keep its bytecode, every process that a test starts compiles the whole project again.
export PYTHONDONTWRITEBYTECODE :=
# The longest files first; the tests of one file, and all that share a Ray, run in one process.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder --durations 10

.PHONY: venv sweep test test-all check docs clean

venv: $(STAMP)

# By uv where it is installed, else by pip: the exact versions of cluster/constraints.txt.
INSTALL := install --quiet --constraint cluster/constraints.txt --editable '.[dev]'
$(STAMP): pyproject.toml cluster/constraints.txt
	@began=$$(date +%s); set -ex; \
	if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) .venv; \
		uv pip $(INSTALL) --python $(BIN)/python; \
	else \
		$(PYTHON) -m venv .venv; \
		$(BIN)/python -m pip $(INSTALL) --disable-pip-version-check; \
	fi; \
	$(BIN)/python -c "import torch, ray, mlflow, optuna, pytest, safetensors"; \
	touch $@; set +x; \
	echo "make venv: $$(($$(date +%s) - began)) s, $$(du -sm .venv | cut -f 1) MB"

sweep: venv
	$(BIN)/python run_sweep.py demo

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Types are checked beside the tests: each alone would leave a core idle.
test: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p .mypy_cache
	@began=$$(date +%s); \
	$(BIN)/mypy >.mypy_cache/output 2>&1 & types=$$!; \
	$(PYTEST) -m "not long"; tests=$$?; \
	wait $$types; types=$$?; cat .mypy_cache/output; \
	echo "make test: $$(($$(date +%s) - began)) s"; \
	[ $$tests = 0 ] && [ $$types = 0 ]

# What `make test` leaves out.
test-all: venv
	@began=$$(date +%s); \
	$(PYTEST) -m long; tests=$$?; \
	echo "make test-all: $$(($$(date +%s) - began)) s"; \
	exit $$tests

# The documentation as a site that opens from the disk: build/site/index.html.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
