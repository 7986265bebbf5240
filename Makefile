# `make demo` and `make test` need Python >= 3.11, make and a package registry; they set up the rest (for the tests, on
# Debian and its like, PostgreSQL too).
PYTHON ?= python3
BIN := .venv/bin
# The tests wait for servers of their own much of the time: two more at once than there are cores.
WORKERS := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 2 )))

.PHONY: demo test lint bench lock clean

.venv/ready: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: .venv/ready
	$(BIN)/crm-mcp demo

test: .venv/ready
	bash .ci/postgres
	PYTEST_XDIST_AUTO_NUM_WORKERS=$(WORKERS) $(BIN)/python -m pytest

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/crm-mcp tools --check

bench: .venv/ready
	$(BIN)/python -m benchmarks

lock: .venv/ready
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11 pyproject.toml --group dev --constraint requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .node dist
