# Everything runs from .venv, which `make install` fills. Only Python >= 3.11, make and a package index are needed.
PYTHON ?= python3.11
# Another index for torch alone, e.g. a CPU build: make install TORCH_INDEX=<url>
TORCH_INDEX ?=
# A folder (or archive) of class folders for `make demo`; default: scikit-learn's handwritten digits.
DATA ?=
PYTEST_ARGS ?=
BENCH ?= finetune
BENCH_ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install up down demo test check format docs bench constraints clean

install: $(STAMP)

$(STAMP): pyproject.toml client/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Graft needs Python 3.11 or newer. Name one: make install PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (the plain torch build is about 5 GB with its CUDA packages) ..."
ifneq ($(TORCH_INDEX),)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --index-url $(TORCH_INDEX) torch torchvision
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e client -e '.[api,worker,postgres,embedded,otel,client,dev]'
else
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e client -e '.[api,worker,postgres,embedded,otel,client,dev]'
endif
	@touch $@

up: install  ## start the service and leave it running
	@$(BIN)/graftd up --detach

down: install  ## stop it
	@$(BIN)/graftd down

demo: install  ## start the service and run one whole job through the API
	@$(BIN)/graftd up --detach
	@GRAFT_URL="$$($(BIN)/graftd status --address)" $(BIN)/python -m examples.demo $(if $(DATA),--data '$(DATA)')

test: install
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: install  ## make the generated tables and pages anew
	@$(BIN)/python -m docs.tables
	@$(BIN)/python -m docs.methods

bench: install
	@$(BIN)/python -m benchmarks.$(BENCH) $(BENCH_ARGS)

constraints:  ## pin what .venv holds now (after raising versions in it)
	@{ echo "# Compiled by 'make constraints' from pyproject.toml and client/pyproject.toml; do not edit."; \
	   $(BIN)/python -m pip freeze --exclude-editable | grep -v ' @ '; } > constraints.txt

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
