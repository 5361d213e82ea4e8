# Everything that is done with Hunch, by name. `make` alone lists the targets.
# ARGS passes options on: make demo ARGS=--exit, make test ARGS="-k replay", make bench ARGS=speed.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHONS := python3.11 python3.12 python3.13 python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1
ARGS ?=
# ARGS are for the command that was asked for, not for a make that this command starts in turn.
unexport ARGS
MAKEOVERRIDES :=

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/runtime: requirements.txt Makefile
	@$(call install,requirements.txt)
	@touch $@

.venv/development: requirements-dev.txt .venv/runtime
	@$(call install,requirements-dev.txt)
	@touch $@

# Makes the environment if it is missing or its Python is gone, and installs the named file in it.
# The .pth file puts the project on the path, as an editable install would; beside it the command
# .venv/bin/hunch is written.
define install
set -e; \
if ! $(BIN)/python -c '' 2>/dev/null; then \
  for python in $(PYTHONS); do \
    if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
      found=$$python; break; \
    fi; \
  done; \
  if [ -z "$$found" ]; then \
    echo "Hunch needs Python 3.11 to 3.13 with its venv module; none of $(PYTHONS) is one." >&2; \
    echo "On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
    exit 1; \
  fi; \
  echo "Making .venv with $$($$found --version)"; \
  $$found -m venv --clear .venv; \
fi; \
echo "Installing $(1)"; \
$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement $(1); \
$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "hunch.pth").write_text(str(pathlib.Path.cwd()))'; \
printf '#!/bin/sh\nexec "%s" -m hunch_client "$$@"\n' "$$PWD/$(BIN)/python" > $(BIN)/hunch; \
chmod +x $(BIN)/hunch
endef

.PHONY: .venv
.venv: .venv/development ## The environment with all that is pinned (made by the other targets too)

.PHONY: demo
demo: .venv/runtime ## The whole job on real data, then the site (ARGS=--exit to end instead)
	@$(BIN)/python manage.py demo $(ARGS)

.PHONY: serve
serve: .venv/runtime ## The site on this machine
	@$(BIN)/python manage.py serve $(ARGS)

.PHONY: test
test: .venv/development ## All tests (ARGS are pytest's)
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope $(ARGS)

.PHONY: soak
soak: .venv/development ## Long runs with faults
	$(BIN)/python -m pytest -m soak $(ARGS)

.PHONY: check
check: .venv/development ## Style, types, layers, templates, migrations, settings, known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/djlint --quiet --lint templates
	$(BIN)/python -W ignore manage.py makemigrations --check --dry-run
	BEHIND_TLS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/pip-audit --requirement requirements.txt --no-deps --disable-pip --progress-spinner off

.PHONY: format
format: .venv/development ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: .venv/development ## Benchmarks, written to docs/benchmarks (ARGS names one)
	$(BIN)/python -m benchmarks $(ARGS)

# --no-deps, since the peers declare torchvision, which they do not need here and which would replace
# torch; torch comes first and with what it needs.
.venv-peers: benchmarks/peers/requirements.txt .venv/runtime
	$(BIN)/python -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep ^torch== $<)"
	$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

.PHONY: peers
peers: .venv-peers ## The libraries that benchmarks compare against, in .venv-peers

.PHONY: study
study: .venv/development ## Studies of language models, written to docs/studies (ARGS names one)
	$(BIN)/python -m studies $(ARGS)

.PHONY: docs
docs: .venv/development ## The documentation as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.PHONY: screenshots
screenshots: .venv/development ## Pictures of the pages for the documentation
	$(BIN)/python -m benchmarks.screenshots $(ARGS)

# No index address is written and torch's local suffix is cut, so that the files install from any index.
PIN := --quiet --strip-extras --allow-unsafe --annotation-style line --no-header \
  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
define head
# Made by `make lock` from the ranges in pyproject.toml; do not edit.
# On Linux pip takes the CUDA build of torch (gigabytes). For the small build without CUDA, give pip
# PyTorch's CPU wheel index as --extra-index-url, or in the variable PIP_EXTRA_INDEX_URL.
endef
export head

.PHONY: lock
lock: ## Pin the ranges of pyproject.toml in the requirements files (ARGS=--upgrade)
	@$(call pin,requirements.txt,)
	@$(call pin,requirements-dev.txt,--extra dev --extra docs --constraint requirements.txt)

define pin
set -e; touch $(1); cp $(1) $(1).new; \
$(BIN)/pip-compile $(PIN) $(2) --output-file $(1).new pyproject.toml $(ARGS); \
(echo "$$head"; sed 's/^\(torch==[0-9.]*\)+[a-z0-9]*/\1/' $(1).new) > $(1); rm $(1).new
endef

.PHONY: clean
clean: ## Remove caches (the data in var/ and .venv stay)
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis site
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
