# Two commands on a bare machine: `make demo` and `make test`. Only python3 (3.11 or later) and make are needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Markers of what is installed: the requirements of the stack, and in addition the tools for tests and style.
STACK := $(VENV)/.stack
TOOLS := $(VENV)/.tools
# The second lane: its own Python and its own environment.
NEWER_PYTHON ?= python3.13
NEWER := .venv-newer
export ENVIRONMENT ?= dev
# Which servers the embedded stack starts: lite or apache (needs java and mvn); valkey or rabbitmq (needs rabbitmq-server).
export BROKER ?= lite
export CELERY_ON ?= valkey

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(STACK) ## Run everything on this machine, with a simulator playing the services (ARGS="--sagas 200 …", BROKER=apache)
	@$(RUN) manage.py demo $(ARGS)

.PHONY: up
up: $(STACK) ## Run the same stack without the simulator, in the foreground
	@$(RUN) manage.py up $(ARGS)

# Two processes take test files in turn, each with its own servers. In the given order: ordered by their number of tests,
# the slowest files would come last.
AT_ONCE = --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(TOOLS) ## Run the test suite on embedded servers (ARGS="tests/unit -k …")
	@$(RUN) -m pytest $(or $(ARGS),$(AT_ONCE) -m "not apache and not rabbitmq and not nightly")

.PHONY: apache
apache: $(TOOLS) ## Run the acceptance tests and the tests of tests/apache on a real Apache Pulsar (needs java and mvn)
	@BROKER=apache $(RUN) -m pytest $(or $(ARGS),tests/acceptance/test_stack.py tests/apache)

.PHONY: rabbitmq
rabbitmq: $(TOOLS) ## Run the acceptance tests and tests/rabbitmq with RabbitMQ as Celery's broker (needs rabbitmq-server)
	@CELERY_ON=rabbitmq $(RUN) -m pytest $(or $(ARGS),tests/acceptance/test_stack.py tests/rabbitmq)

.PHONY: newer
newer: $(NEWER)/.tools ## Run unit and integration tests on Python 3.13 with the newest Django and unfold, and psycopg 3
	@$(NEWER)/bin/python -m pytest $(or $(ARGS),$(AT_ONCE) -m "not apache and not rabbitmq and not nightly and not browser" tests/unit tests/properties tests/integration)

.PHONY: nightly
nightly: $(TOOLS) ## Run everything that takes too long for each change, about three hours (needs java, mvn and rabbitmq-server)
	$(RUN) -m pytest -m nightly
	$(MAKE) coverage
	$(MAKE) apache
	$(MAKE) rabbitmq
	$(MAKE) newer
	$(MAKE) prove SECONDS=1800
	$(MAKE) mutants
	$(MAKE) chaos ARGS="--seconds 1800"
	$(MAKE) chaos ARGS="--seconds 1800" BROKER=apache
	$(MAKE) soak ARGS="--minutes 30 --rate 200"
	$(MAKE) hostile

.PHONY: hostile
hostile: $(TOOLS) ## Fuzz decoder, API and admin with many examples, and open every page for the corpus of bad messages (30 minutes)
	@FUZZ_EXAMPLES=20000 API_EXAMPLES=100 THOROUGH=1 $(RUN) -m pytest \
		$(or $(ARGS),tests/properties/test_decoder.py tests/integration/test_api_schema.py tests/integration/test_fuzz.py \
		tests/acceptance/test_corpus.py)

.PHONY: prove
prove: $(TOOLS) ## Test the engine's main property on random examples for a given time (SECONDS=60)
	@$(RUN) -m tests.properties.prove --seconds $(or $(SECONDS),60) $(ARGS)

.PHONY: mutants
mutants: $(TOOLS) ## Run mutation tests: two thousand small changes of the engine must each fail a test (docs/testing.md)
	@$(RUN) -m tests.mutants $(ARGS)

.PHONY: covered
covered: $(TOOLS) ## Check that the tests that name what they expect go through every branch of the engine
	@$(RUN) -m pytest --numprocesses 2 -m "not no_cover" --cov=sagas/engine --cov-report=term --cov-fail-under=100 \
		tests/unit tests/histories tests/properties

.PHONY: coverage
coverage: $(TOOLS) ## Run the test suite and report which lines of the whole project it runs, in half as much time again
	@$(RUN) -m pytest --cov --cov-report=term $(AT_ONCE) -m "not apache and not rabbitmq and not nightly"

.PHONY: bench
bench: $(TOOLS) ## Measure the service on its own stack, ten minutes (ARGS="--quick", or --only ordered …)
	@$(RUN) -m tests.bench $(ARGS)

.PHONY: compare
compare: $(TOOLS) ## Compare the speed of this tree with another commit, 15 minutes (BASE=<commit>, ARGS="--runs 5")
	@$(RUN) -m tests.bench.compare $(or $(BASE),$(error BASE is missing: make compare BASE=<commit>)) $(ARGS)

.PHONY: chaos
chaos: $(TOOLS) ## Cause failures in the running system for ten minutes and check that nothing is lost (ARGS="--short", or --seconds 1800 --seed 7; BROKER=apache)
	@$(RUN) -m tests.chaos $(ARGS)

.PHONY: soak
soak: $(TOOLS) ## Run for 30 minutes and check that nothing grows except the log (ARGS="--minutes 30 --rate 200")
	@$(RUN) -m tests.soak $(ARGS)

.PHONY: performance
performance: $(TOOLS) ## Write docs/performance.md from the results of make bench (docs/performance.md describes how)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-plots.txt
	@$(RUN) -m tests.bench.page

.PHONY: lint
lint: $(TOOLS) ## Check style, types, layers, migrations and retired words
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/djlint --check --quiet sagas/templates
	$(VENV)/bin/djlint --lint --quiet sagas/templates
	$(VENV)/bin/mypy devtools sagaproject sagas compensation bridge tests
	$(VENV)/bin/lint-imports
	$(RUN) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run --settings tests.settings
	$(RUN) manage.py check --settings tests.settings
	$(RUN) .ci/words

.PHONY: settings
settings: $(TOOLS) ## Write .env.example and the tables of docs/configuration.md from the declaration of the settings
	@$(RUN) -m devtools.setting_pages

.PHONY: install
install: $(TOOLS) ## Create .venv and install everything (each target also installs what it needs)

.PHONY: clean
clean: ## Remove the virtual environments and var/ (data and logs of the embedded stack), and its replacement in /var/tmp
	@$(PYTHON) -I -S devtools/embedded/outside.py var
	rm -rf $(VENV) $(NEWER) var

# Repeated when the requirements change. Every file is pinned with its hashes (.ci/pin).
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes

$(STACK): requirements.txt requirements-stack.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; $(PYTHON) is older. Use: make PYTHON=python3.12 …"; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || { echo "creating $(VENV) …"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot create $(VENV): install its venv module (Debian: python3-venv)."; exit 1; }
	@echo "installing requirements-stack.txt (about a minute) …"
	@$(INSTALL) -r requirements-stack.txt
	@touch $@

$(TOOLS): requirements-dev.txt $(STACK)
	@echo "installing requirements-dev.txt (about a minute) …"
	@$(INSTALL) -r requirements-dev.txt
	@touch $@

$(NEWER)/.tools: requirements-newer.txt
	@command -v $(NEWER_PYTHON) >/dev/null || { echo "The second lane needs Python 3.13. Use: make newer NEWER_PYTHON=/path/to/python3.13"; exit 1; }
	@$(NEWER)/bin/python -m pip --version >/dev/null 2>&1 || { rm -rf $(NEWER); $(NEWER_PYTHON) -m venv $(NEWER); }
	@echo "installing requirements-newer.txt (about a minute) …"
	@$(NEWER)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-newer.txt
	@touch $@
