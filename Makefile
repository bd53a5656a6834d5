# make run PROMPT="…"   a real answer, from nothing
# make test             everything the tests need, then the tests (ARGS="-k name" for some of them)
# make check            what CI runs
# make fix              format
# make golden           rewrite the golden files; read the diff
# make docs             rewrite what is generated: docs/cli.md
# make benchmark        the figures of the README (builds the peer: ten minutes)
# make engine-upgrade VERSION=…   move to another build of the engine

PYTHON ?= python3
PROMPT ?= What is the capital of France? Answer in one sentence.
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test check lint fix golden docs benchmark engine-upgrade constraints

run: .venv/base
	@$(BIN)/filbert chat "$(PROMPT)"

test: .venv/test
	$(BIN)/pytest -q $(ARGS)

check: lint test

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: .venv/test
	$(BIN)/pytest -q tests --rewrite-golden

docs: .venv/test
	$(BIN)/python tools/write_docs.py

benchmark: .venv/test
	$(BIN)/python benchmarks/run/run.py $(ARGS)

engine-upgrade: .venv/test
	$(BIN)/python tools/engine_upgrade.py $(VERSION)

constraints: .venv/test
	$(BIN)/python tools/write_constraints.py

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	@touch $@

.venv/test: .venv/base
	$(PIP) --editable '.[test]'
	@touch $@
