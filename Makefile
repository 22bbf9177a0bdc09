# make demo    start the service on http://localhost:3000 and derain examples/rain.jpg into clean.jpg
# make serve   start the service alone
# make test    run every test          make quick   the fast ones
# make check   style, types, imports   make lock    renew requirements/
# make develop install what training and tests need
# make check-deploy   image, manifests, alerts, dashboard   make monitoring   renew what is made of them
# make docs    build the documentation into site/           make package   build wheel and source, and check them
# make check-page     the page in Chromium, and whether everybody can use it
# make audit   known weaknesses of the pinned packages       make sbom IMAGE=...   what is in it
#
# make retrain train a candidate, gate it and, if it passes, serve it
# make gate    the second half: CANDIDATE=folder in models/
# make promote serve a model, ungated: MODEL=folder in models/ REASON="..."
# make rollback  serve what was served before
#
# RUNTIME=gpu  uses onnxruntime-gpu instead of onnxruntime
# PORT=8080    another port            PYTHON=...   another Python, 3.11 to 3.13
# HOST=0.0.0.0 for callers on other machines: everybody may call, unless DERAIN_KEYS names a file of keys

RUNTIME ?= cpu
HOST ?= 127.0.0.1
PORT ?= 3000

# The first Python here that is new enough.
SUPPORTED = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)

BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK_cpu = requirements/serve.txt
LOCK_gpu = requirements/serve-gpu.txt
SERVE_READY = .venv/ready-serve-$(RUNTIME)
DEV_READY = .venv/ready-dev
DEPLOY_READY = .venv/deploy/ready
RELEASE_READY = .venv/release/ready
PAGE_READY = tests/serving/node_modules/.package-lock.json

# BentoML keeps its metrics here and clears them when it starts: not to be shared with other services.
export BENTOML_HOME ?= $(CURDIR)/.venv/bentoml
export BENTOML_DO_NOT_TRACK = True

# A candidate that was interrupted goes on under its own name: CANDIDATE=candidate-2026-11-24
RECIPE ?= base
CANDIDATE ?= candidate-$(shell date +%Y-%m-%d)
TRAIN ?=# more options for training/run.py
GATE ?=# and for the gate

.PHONY: demo serve develop test quick check lock retrain gate promote rollback check-deploy check-page monitoring audit sbom docs package

demo: $(SERVE_READY)
	@$(BIN)/python scripts/demo.py examples/rain.jpg clean.jpg --host $(HOST) --port $(PORT)

serve: $(SERVE_READY)
	@echo "To try it: curl --data-binary @examples/rain.jpg -o clean.jpg localhost:$(PORT)/v1/derain"
	$(BIN)/python -m derain serve --host $(HOST) --port $(PORT)

develop: $(DEV_READY)

# Tests start hundreds of Python processes: modules are compiled once, whatever the shell says of that.
test quick: export PYTHONDONTWRITEBYTECODE =

# Files are shared out among the cores, in the order of tests/conftest.py.
test: $(DEV_READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

quick: $(DEV_READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "not slow"

check: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Debian has the rest that these tests use: prometheus and prometheus-alertmanager. What is not there is skipped.
check-deploy: $(DEV_READY) $(DEPLOY_READY)
	$(BIN)/python -m pytest tests/deploy

# Debian's chromium and npm are needed.
check-page: $(DEV_READY) $(PAGE_READY)
	$(BIN)/python -m pytest tests/serving/test_page.py

monitoring: $(DEV_READY)
	$(BIN)/python deploy/monitoring/generate.py

audit: $(DEPLOY_READY)
	@$(BIN)/python scripts/audit.py

sbom: $(DEPLOY_READY)
	@test -n "$(IMAGE)" || { echo "which image? make sbom IMAGE=derain:0.1.0-cpu" >&2; exit 1; }
	@$(BIN)/python scripts/sbom.py $(IMAGE) sbom/$(notdir $(subst :,-,$(subst @,-,$(IMAGE)))).json

# Fails on a link that leads nowhere and on a page that is in no menu. REPOSITORY_URL: where links to code lead.
docs: $(RELEASE_READY)
	@NO_MKDOCS_2_WARNING=1 .venv/release/bin/mkdocs build --strict

package: $(RELEASE_READY)
	@rm -rf dist
	.venv/release/bin/uv build --python $(BIN)/python
	@.venv/release/bin/twine check --strict dist/derain-*

retrain: $(DEV_READY)
	$(BIN)/python training/run.py $(RECIPE) --name $(CANDIDATE) $(TRAIN)
	@$(MAKE) --no-print-directory gate CANDIDATE=$(CANDIDATE)

gate: $(DEV_READY)
	$(BIN)/python -m training gate models/$(CANDIDATE) --report runs/$(CANDIDATE)/gate.json --promote $(GATE)

promote: $(SERVE_READY)
	@$(BIN)/python -m derain.models promote "$$MODEL" --reason "$$REASON"

rollback: $(SERVE_READY)
	@$(BIN)/python -m derain.models rollback

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }

# onnxruntime and onnxruntime-gpu are one module under two names: the other one goes first.
.venv/ready-serve-cpu: requirements/serve.txt
.venv/ready-serve-gpu: requirements/serve-gpu.txt
.venv/ready-serve-%: | .venv/bin/python
	@test -n "$(LOCK_$*)" || { echo "RUNTIME is cpu or gpu, not $*" >&2; exit 1; }
	@echo "Installing what the service needs into .venv ..."
	@rm -f .venv/ready-*
	@$(PIP) uninstall --yes onnxruntime onnxruntime-gpu 2>/dev/null
	@$(PIP) install --require-hashes --requirement $(LOCK_$*)
	@$(PIP) install --no-deps --editable .
	@touch $@

# Tests and training run on the CPU's onnxruntime, whatever the service is to run on.
$(DEV_READY): requirements/dev.txt requirements/torch.txt .venv/ready-serve-cpu
	@echo "Installing what training and tests need into .venv ..."
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@$(PIP) install --requirement requirements/torch.txt
	@touch $@

# An environment of its own: checkov pins much that the service has in newer versions.
$(DEPLOY_READY): requirements/deploy.txt | .venv/bin/python
	@echo "Installing what looks at deployments into .venv/deploy ..."
	@$(BIN)/python -m venv .venv/deploy
	@.venv/deploy/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement $<
	@touch $@

# Another one: documentation and packages are made with what neither the service nor training needs.
$(RELEASE_READY): requirements/release.txt | .venv/bin/python
	@echo "Installing what makes documentation and packages into .venv/release ..."
	@$(BIN)/python -m venv .venv/release
	@.venv/release/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --requirement $<
	@touch $@

$(PAGE_READY): tests/serving/package-lock.json
	npm ci --prefix tests/serving --no-audit --no-fund

COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet --upgrade
lock: $(DEV_READY)
	$(COMPILE) --extra cpu --extra serve --extra trace --output-file requirements/serve.txt
	$(COMPILE) --extra gpu --extra serve --extra trace --output-file requirements/serve-gpu.txt
	$(COMPILE) --extra cpu --extra serve --extra trace --extra video --extra export --extra plots --extra dev \
		--constraint requirements/serve.txt --output-file requirements/dev.txt
	$(COMPILE) --extra cpu --extra kuberay --output-file requirements/ray.txt
	$(BIN)/uv pip compile --group pyproject.toml:deploy --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --upgrade --output-file requirements/deploy.txt
	$(BIN)/uv pip compile --group pyproject.toml:release --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --quiet --upgrade --output-file requirements/release.txt
