# Everything runs in .venv. A stamp file per kind of installation avoids repeated work.
.DEFAULT_GOAL := help
.PHONY: help demo test lock deploy-check docs try tutorials bench results proto lint format clean

VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
# Whatever starts servers starts many processes. Without bytecode, each of them would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

help:
	@echo 'make demo    explain real inputs over gRPC and write demo.html'
	@echo 'make test    run the test suite'
	@echo 'make deploy-check  check Dockerfile, compose.yaml and manifests with the published schemas'
	@echo 'make lock    choose the versions of the packages in the container image'
	@echo 'make docs    build the documentation site in site/'
	@echo 'make try     build the page that explains without a server in docs/try/; needs npm'
	@echo 'make tutorials  run the tutorials; installs torch and TensorFlow in a temporary folder (7 GB)'
	@echo 'make bench   measure the engine and the service against ONNX Runtime'
	@echo 'make results repeat the experiments of the papers and write docs/results.md'
	@echo 'make lint    formatter, linters, type checker'
	@echo 'make proto   regenerate the stubs, and the methods of all clients'
	@echo 'make format  format the Python sources'
	@echo 'make clean   remove $(VENV), $(VENV)-deploy and files that tools left'

$(BIN)/python:
	@for python in $(PYTHON) $(PYTHONS); do \
	    if command -v $$python >/dev/null 2>&1 && $$python -c '$(USABLE)' >/dev/null 2>&1; then \
	        echo "$$($$python --version) makes $(VENV)"; exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo 'No usable Python 3.11 or newer was found (with its venv module; on Debian: apt install python3-venv).' >&2; \
	echo 'Install one, or name it: make PYTHON=/path/to/python3' >&2; exit 1

$(VENV)/.server: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.server

demo: $(VENV)/.server
	@$(BIN)/python scripts/demo.py

# Two processes share the test files, in the order of tests/conftest.py. Two suit small machines, because many tests
# start their own servers. What fails beside other tests gets a second chance alone: a machine that is overloaded for
# minutes is no fault of the code. Such a test needs mending all the same (CONTRIBUTING.md).
# Each has one thread for matrices, like a server: threads of several processes would wait for each other.
PYTEST := $(BIN)/python -m pytest
test: export OPENBLAS_NUM_THREADS := 1
test: $(VENV)/.dev
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS) || { [ $$? -eq 1 ] && \
	    echo 'Some tests failed beside others; they run once more, alone.' && \
	    $(PYTEST) --last-failed --last-failed-no-failures none --maxfail 1 $(ARGS); }

HELM := helm.sh/helm/v3/cmd/helm@v3.18.6

# Uses a separate environment: see the extra in pyproject.toml.
$(VENV)-deploy/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(VENV)-deploy
	$(VENV)-deploy/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[deploy]'
	command -v helm >/dev/null || ! command -v go >/dev/null || GOBIN=$(CURDIR)/$(VENV)-deploy/bin go install $(HELM) || \
	    echo 'helm could not be installed; the tests of the chart are skipped' >&2
	@touch $@

deploy-check: $(VENV)-deploy/.installed
	$(VENV)-deploy/bin/python -m pytest --noconftest tests/deploy/test_schemas.py $(ARGS)

# The versions and hashes of the image. Keeps the versions that are there, unless ARGS=--upgrade.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'
lock:
	$(LOCK) $(ARGS) pyproject.toml --extra server --extra otel --extra web --extra provenance \
	    --output-file deploy/image/requirements.txt
	$(LOCK) $(ARGS) deploy/image/tools.in --output-file deploy/image/tools.txt

# NO_MKDOCS_2_WARNING silences an advertisement of the theme.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

try: $(VENV)/.server
	@$(BIN)/python scripts/try_page $(ARGS)

tutorials: $(VENV)/.dev
	$(BIN)/python scripts/tutorials.py $(ARGS)

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

results: $(VENV)/.server
	@$(BIN)/python scripts/results $(ARGS)

proto: $(VENV)/.dev
	$(BIN)/python scripts/generate_stubs.py
	$(BIN)/python -m scripts.generate_methods

lint: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	scripts/check_breaking.sh

format: $(VENV)/.dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) $(VENV)-deploy site .import_linter_cache .pytest_cache .mypy_cache .ruff_cache .hypothesis demo.html
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
