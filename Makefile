# The commands of this project. Each makes its own environment in .venv; nothing is installed outside it.
#   make demo PYTHON=python3.12     another interpreter
#   make test ARGS="-k keys -x"     arguments for pytest, the benchmark or the example

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check bench docs clean environment-demo environment-dev

PYTHON ?=
VENV ?= $(CURDIR)/.venv
ARGS ?=

RUN := "$(VENV)/bin/python" -m
DOCS := docs/_build

help:
	@echo "make demo    run the example: a flight board on a free port of this machine"
	@echo "make test    run every test, on a real Redis (if there is one) and a real Valkey"
	@echo "make check   lint, format, types, import floors, documentation"
	@echo "make bench   what a hit costs, next to a bare view and to Flask-Caching"
	@echo "make docs    build the documentation"
	@echo "make clean   remove everything that these commands made"

environment-demo:
	@sh .ci/environment "$(VENV)" demo "$(PYTHON)"

environment-dev:
	@sh .ci/environment "$(VENV)" dev "$(PYTHON)"

demo: environment-demo
	@exec $(RUN) example_app $(ARGS)

test: environment-dev
	$(RUN) pytest $(ARGS)

check: environment-dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) pyright --pythonpath "$(VENV)/bin/python"
	"$(VENV)/bin/lint-imports" --no-cache
	$(RUN) sphinx -b html -n -W --keep-going -q docs $(DOCS)/html

bench: environment-dev
	$(RUN) benchmarks $(ARGS)

docs: environment-dev
	$(RUN) sphinx -b html -n -W --keep-going docs $(DOCS)/html
	@echo "Open $(DOCS)/html/index.html"

clean:
	rm -rf "$(VENV)" build dist $(DOCS) ./*.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
