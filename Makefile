# `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
STAMP = $(VENV)/.zfrepro-installed

# Notebooks run in their own folder, so a relative data folder is made absolute here.
ifdef ZFREPRO_DATA
ifneq ($(filter-out /%,$(firstword $(ZFREPRO_DATA))),)
override ZFREPRO_DATA := $(CURDIR)/$(ZFREPRO_DATA)
endif
export ZFREPRO_DATA
endif
ifdef ZFREPRO_DATASET
export ZFREPRO_DATASET
endif
export JUPYTER_PREFER_ENV_PATH = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test twice bench lint lock clean

help: ## this list
	@echo "Visualizing and Understanding Convolutional Networks, reproduced. Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile
	@echo "The first of book, test, twice, bench and lint to run sets up $(VENV) (some 6 GB on Linux: torch with CUDA)."
	@echo "Settings, before or after the word make:"
	@echo "  PYTHON=python3.12       the Python (3.11 or newer) to build $(VENV) from"
	@echo "  VENV=folder             where the environment lives (now: $(VENV))"
	@echo "  ZFREPRO_DATASET=name    diorama (default, needs nothing), imagenette, imagewoof, imagenet20, imagenet"
	@echo "  ZFREPRO_DATA=folder     where the photographs lie, e.g.  ZFREPRO_DATASET=imagenet20 ZFREPRO_DATA=../data make book"

book: $(STAMP) ## run the notebooks, build _build/html/index.html (any warning or failing cell is an error)
	$(PY) tools/make.py book

test: $(STAMP) ## lint, unit tests, every notebook once, the book from those runs
	$(PY) tools/make.py test

twice: $(STAMP) ## run every notebook twice: both runs must show the same numbers and pictures
	$(PY) tools/make.py twice

bench: $(STAMP) ## speed side by side with Captum and torchvision
	$(PY) -m benchmarks

lint: $(STAMP) ## ruff
	$(PY) -m ruff check .

lock: $(STAMP) ## write requirements.lock from what is installed in the environment
	$(PY) tools/make.py lock

clean: ## remove what was built (the environment stays; remove it with: rm -r .venv)
	rm -rf _build .executed .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The stamp goes first and comes back last: an interrupted install leaves none, and is done again.
$(STAMP): pyproject.toml requirements.lock tools/setup.sh
	@rm -f "$@"
	@sh tools/setup.sh "$(PYTHON)" "$(VENV)"
	@touch "$@"
