# One habit, one target; the CI calls the same targets as a person does.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := .demo

.DEFAULT_GOAL := help
.PHONY: help install check test demo docs bench build format clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(STAMP) ## Create .venv and install pa_lib with its development tools

# A stamp keyed by pyproject.toml: an install that was cut off, or an older list of packages, is done again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pa_lib needs Python >= 3.11, got $$($(PYTHON) --version). Try: make install PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pa_lib and its packages into $(VENV) (about 3 GB, two to five minutes) ..."
	@for try in 1 2 3; do $(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" && break; \
	  test $$try = 3 && exit 1; echo "The download broke off; trying again ..." >&2; sleep 5; done
	@touch $@

check: $(STAMP) ## Lint, formatting, types, layers, version = changelog
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_version.py

test: $(STAMP) ## The whole suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

demo: $(STAMP) ## Anonymize a clip and say where the result lies
	@$(BIN)/python tools/make_demo_clip.py $(DEMO)/park.mp4
	$(BIN)/pa-anonymize input=$(DEMO)/park.mp4 seed=119

docs: $(STAMP) ## Check that the documentation's commands, links and examples hold
	$(BIN)/python -m pytest -q tests/docs tests/contract src/pa_lib

bench: $(STAMP) ## Every benchmark; results go to benchmarks/results and docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py

build: $(STAMP) ## Wheel and source archive in dist/
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist

format: $(STAMP) ## Sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what the other targets made
	rm -rf $(VENV) $(DEMO) dist benchmarks/work .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
