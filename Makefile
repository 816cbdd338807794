# The commands of this project. Each makes its own environment in .venv; nothing is installed outside it.
#   make demo PYTHON=python3.12     another interpreter
#   make test ARGS="-k keys -x"     arguments for pytest, the benchmark or the example
#   make test ARGS="-n 0 --pdb"     the tests one after another, in one process

.DEFAULT_GOAL := help
ifndef TOGETHER
.NOTPARALLEL: # two environments are never made at a time
endif
.PHONY: help demo test test-fast test-long test-lowest test-pythons check bench docs dist clean
.PHONY: check-mypy check-pyright check-docs
.PHONY: environment-demo environment-test environment-dev environment-lowest

PYTHON ?=
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
VENV ?= $(CURDIR)/.venv
LOWEST ?= $(CURDIR)/.venv-lowest
ARGS ?=

RUN := "$(VENV)/bin/python" -m
DOCS := docs/_build
# The workers, and what each is given: tests/lanes.py.
PARALLEL := -n auto
FAST := not race and not chaos and not slow and not long

help:
	@echo "make demo          run the example: a flight board, on port 5000 or a free one"
	@echo "make test          run the tests but the longest, on a real Redis (if there is one) and a real Valkey"
	@echo "make test-fast     test without races, chaos, browsers and what else is slow"
	@echo "make test-long     failovers, soaks, and each of the engine's rules broken in turn"
	@echo "make test-lowest   test-fast with the lowest versions of other packages"
	@echo "make test-pythons  test-fast with each Python that is on the path"
	@echo "make check         lint, format, types, import layers, documentation"
	@echo "make bench         every figure of the documentation (ARGS=--quick: small runs, and nothing is written)"
	@echo "make docs          build the documentation"
	@echo "make dist          build the wheel and the source distribution in dist/"
	@echo "make clean         remove everything that these commands made"

environment-demo:
	@sh .ci/environment "$(VENV)" demo "$(PYTHON)"

environment-test:
	@sh .ci/environment "$(VENV)" test "$(PYTHON)"

environment-lowest:
	@sh .ci/environment "$(LOWEST)" lowest "$(PYTHON)"

environment-dev:
	@sh .ci/environment "$(VENV)" dev "$(PYTHON)"

demo: environment-demo
	@exec $(RUN) example_app $(ARGS)

test: environment-dev
	$(RUN) pytest $(PARALLEL) -m "not long" $(ARGS)

test-fast: environment-test
	$(RUN) pytest $(PARALLEL) -m "$(FAST)" $(ARGS)

test-long: environment-dev
	$(RUN) pytest -n 1 -m long $(ARGS)

test-lowest: environment-lowest
	"$(LOWEST)/bin/python" -m pytest $(PARALLEL) -m "$(FAST) and not jwks" $(ARGS)

test-pythons:
	@for each in $(PYTHONS); do \
	    if command -v $$each >/dev/null; then \
	        echo "--- $$each"; \
	        $(MAKE) --no-print-directory test-fast PYTHON=$$each VENV="$(VENV)-$$each" || exit 1; \
	    else \
	        echo "--- $$each is not on the path"; \
	    fi; \
	done

check: environment-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	"$(VENV)/bin/lint-imports" --no-cache
	@$(MAKE) --no-print-directory --output-sync -j 2 TOGETHER=yes check-mypy check-pyright check-docs

# What takes long and keeps one processor busy.
check-mypy:
	$(RUN) mypy

check-pyright:
	$(RUN) pyright --pythonpath "$(VENV)/bin/python"

check-docs:
	$(RUN) sphinx -b html -n -W --keep-going -q docs $(DOCS)/html

bench: environment-dev
	$(RUN) benchmarks.suite $(ARGS)

docs: environment-dev
	$(RUN) sphinx -b html -n -W --keep-going docs $(DOCS)/html
	@echo "Open $(DOCS)/html/index.html"

dist: environment-dev
	rm -rf dist build ./*.egg-info
	$(RUN) build

clean:
	rm -rf "$(VENV)" "$(VENV)"-* "$(LOWEST)" build dist $(DOCS) ./*.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
