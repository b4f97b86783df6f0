# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

BASE_PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.requirements-installed
SOURCES := scripts tests benchmarks integrations

.DEFAULT_GOAL := help
.PHONY: help setup demo tour options test format lint clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo '  PIP_ARGS="..."     options for pip, e.g. an index with smaller builds of torch'
	@echo '  PYTEST_ARGS="..."  options for pytest instead of "$(PYTEST_ARGS)"'
	@echo '  BASE_PYTHON=...    the Python, 3.11 or later, that .venv is made from'

setup: $(STAMP) ## make .venv with everything in requirements.txt and requirements-dev.txt

$(STAMP): requirements.txt requirements-dev.txt
	@$(BASE_PYTHON) -c 'import sys; sys.exit("error: python: found %d.%d; do set BASE_PYTHON to 3.11 or later" \
		% sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(BASE_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install $(PIP_ARGS) "$$(grep '^torch==' requirements.txt)"
	$(PYTHON) -m pip install $(PIP_ARGS) -r requirements.txt -r requirements-dev.txt
	@touch $@

demo: setup ## simulate, infer and generate on this machine; ends with the picture's path
	rm -rf demo
	$(PYTHON) -m scripts.commands.demo

options: setup ## write docs/options.md and docs/tour.ipynb anew, from what they show
	$(PYTHON) -m scripts.commands.options
	$(PYTHON) -m scripts.commands.tour --notebook

tour: setup ## run the commands of docs/tour.md: scans, maps, contrasts, console, new brains
	rm -rf tour
	$(PYTHON) -m scripts.commands.tour

# One thread a worker: two workers share two cores, and what the tests start inherits it.
test: setup ## run the test suite
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q $(PYTEST_ARGS)

format: setup ## rewrite the sources with isort and black
	$(PYTHON) -m isort $(SOURCES)
	$(PYTHON) -m black $(SOURCES)

lint: setup ## check the sources with isort, black and flake8
	$(PYTHON) -m isort --check-only $(SOURCES)
	$(PYTHON) -m black --check $(SOURCES)
	$(PYTHON) -m flake8 --max-line-length 120 --extend-ignore E203 $(SOURCES)

clean: ## remove .venv, caches and the output of demo and tour; runs/ and data/ stay
	rm -rf $(VENV) demo tour .pytest_cache
	find $(SOURCES) -name __pycache__ -type d -exec rm -rf {} +
