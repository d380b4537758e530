# Every target sets itself up: a virtual environment of its own, made from nothing but python3 (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo-out
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
TESTS ?=
FUZZ ?= 10000

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-arm zoo fuzz lint format docs hooks clean

help:
	@echo "make demo       train a small network on handwritten digits, halve its latency on this CPU, show the report"
	@echo "make test       format, lint, types, layering and every quick test"
	@echo "make test-all   the same with the slow tests (CUTBACK_MODELS=FOLDER: on your own .onnx files too)"
	@echo "make test-arm   the agent and ONNX Runtime on an emulated Arm computer, made here (as root; 350 MB in the user's cache)"
	@echo "make fuzz       feed 10,000 broken models to the loader (FUZZ=count); stopped, it goes on where it was"
	@echo "make zoo        cut every architecture of the zoo and write docs/zoo.md (options in ARGS; an hour or more)"
	@echo "make lint       format, lint, types and layering only"
	@echo "make docs       write the pages that the code generates (docs/operators.md)"
	@echo "make bench-NAME run benchmarks/NAME.py (options in ARGS)"
	@echo "make hooks      check before every commit"
	@echo "make clean      remove the virtual environment and what the demo wrote"

# torch first and alone: its version decides which build is taken, and everything after has to live with it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "cutback needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev,runtimes]'
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/digits/train.py --output $(DEMO)
	$(BIN)/cutback compress $(DEMO)/digits.onnx --target local --goal "latency<=0.5x" --data $(DEMO)/train.npz \
		--validate $(DEMO)/test.npz --epochs 15 --batch-size 64 --lr 0.02 --max-drop 1.0 -o $(DEMO)/bundle

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -q -m "not slow" $(TESTS)

# With the package that the zoo's architectures come from, and ExecuTorch: without them their tests would be skipped.
test-all: lint
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev,runtimes,executorch,zoo]'
	$(BIN)/python -m pytest -q $(TESTS)

# From Debian's packages and the Python package index; what is missing here, the tests that are skipped say.
test-arm: $(STAMP)
	$(BIN)/python -m pytest -q tests/targets/test_arm.py

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz.campaign $(FUZZ) --shared -o fuzz.jsonl

zoo: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev,zoo]'
	$(BIN)/python -m tests.zoo.report $(ARGS)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m docs.generate_operators

bench-%: $(STAMP)
	$(BIN)/python -m benchmarks.$(subst -,_,$*) $(ARGS)

hooks: $(STAMP)
	$(BIN)/python -m pip install --quiet pre-commit
	$(BIN)/pre-commit install

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
