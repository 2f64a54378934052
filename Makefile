# Two commands on a bare machine: `make demo` and `make test`. Only python3 (3.11 or later) and make are needed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# What is installed already: all that the stack needs, and the tools for tests and style on top of it.
STACK := $(VENV)/.stack
TOOLS := $(VENV)/.tools
export ENVIRONMENT ?= dev
# Which servers the embedded stack starts: lite or apache (needs java and mvn); valkey or rabbitmq (needs rabbitmq-server).
export BROKER ?= lite
export CELERY_ON ?= valkey

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | sort | while IFS="$$(printf '\t')" read -r name words; do printf '  make %-9s %s\n' "$$name" "$$words"; done

.PHONY: demo
demo: $(STACK) ## Start everything on this machine and let a simulator play the services (ARGS="--sagas 200 …", BROKER=apache)
	@$(RUN) manage.py demo $(ARGS)

.PHONY: up
up: $(STACK) ## Start the same stack without the simulator, in the foreground
	@$(RUN) manage.py up $(ARGS)

# Two processes take files in turn, each on servers of its own. In order: by their number of tests the slowest come last.
AT_ONCE = --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(TOOLS) ## Run the test suite on embedded servers, with coverage (ARGS="tests/unit -k …")
	@$(RUN) -m pytest --cov --cov-report=term $(if $(ARGS),$(ARGS) --cov-fail-under=0,$(AT_ONCE) -m "not apache and not rabbitmq and not nightly")

.PHONY: apache
apache: $(TOOLS) ## Run the acceptance tests, and what only they can show, on a real Apache Pulsar (needs java and mvn)
	@BROKER=apache $(RUN) -m pytest $(or $(ARGS),tests/acceptance/test_stack.py tests/apache)

.PHONY: rabbitmq
rabbitmq: $(TOOLS) ## Run the acceptance tests with RabbitMQ as Celery's broker (needs rabbitmq-server)
	@CELERY_ON=rabbitmq $(RUN) -m pytest $(or $(ARGS),tests/acceptance/test_stack.py tests/rabbitmq)

.PHONY: nightly
nightly: $(TOOLS) ## All that takes too long for every change, some three hours (needs java, mvn and rabbitmq-server)
	$(RUN) -m pytest -m nightly
	$(MAKE) apache
	$(MAKE) rabbitmq
	$(MAKE) prove SECONDS=1800
	$(MAKE) mutants
	$(MAKE) chaos ARGS="--seconds 1800"
	$(MAKE) chaos ARGS="--seconds 1800" BROKER=apache
	$(MAKE) soak ARGS="--minutes 30 --rate 200"
	$(MAKE) hostile

.PHONY: hostile
hostile: $(TOOLS) ## Fuzz decoder, API and admin with many examples, and open every page of the corpus of bad messages (half an hour)
	@FUZZ_EXAMPLES=20000 API_EXAMPLES=100 THOROUGH=1 $(RUN) -m pytest \
		$(or $(ARGS),tests/properties/test_decoder.py tests/integration/test_api_schema.py tests/integration/test_fuzz.py \
		tests/acceptance/test_corpus.py)

.PHONY: prove
prove: $(TOOLS) ## Try the engine's theorem on as many examples as a time allows (SECONDS=60)
	@$(RUN) -m tests.properties.prove --seconds $(or $(SECONDS),60) $(ARGS)

.PHONY: mutants
mutants: $(TOOLS) ## Change the engine in two thousand small ways and see that a test fails of each (docs/testing.md)
	@$(RUN) -m tests.mutants $(ARGS)

.PHONY: covered
covered: $(TOOLS) ## See that the tests that make test has just run went through every branch of the engine
	@$(VENV)/bin/coverage report --include='sagas/engine/*' --fail-under=100

.PHONY: bench
bench: $(TOOLS) ## Measure the service on a stack of its own, ten minutes (ARGS="--quick", or --only ordered …)
	@$(RUN) -m tests.bench $(ARGS)

.PHONY: compare
compare: $(TOOLS) ## Is this tree slower than another commit? A quarter of an hour (BASE=<commit>, ARGS="--runs 5")
	@$(RUN) -m tests.bench.compare $(or $(BASE),$(error name the commit: make compare BASE=<commit>)) $(ARGS)

.PHONY: chaos
chaos: $(TOOLS) ## Break the running system for ten minutes and see that nothing is lost (ARGS="--short", or --seconds 1800 --seed 7; BROKER=apache)
	@$(RUN) -m tests.chaos $(ARGS)

.PHONY: soak
soak: $(TOOLS) ## Run for 30 minutes and see that nothing grows but the log (ARGS="--minutes 30 --rate 200")
	@$(RUN) -m tests.soak $(ARGS)

.PHONY: performance
performance: $(TOOLS) ## Write docs/performance.md from what make bench measured (docs/performance.md says how)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-plots.txt
	@$(RUN) -m tests.bench.page

.PHONY: lint
lint: $(TOOLS) ## Check style, types, layers and migrations
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy sagaproject sagas compensation bridge tests
	$(VENV)/bin/lint-imports
	$(RUN) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run --settings tests.settings
	$(RUN) manage.py check --settings tests.settings

.PHONY: install
install: $(TOOLS) ## Make .venv and install everything (each target installs what it needs)

.PHONY: clean
clean: ## Remove .venv and var/ (data and logs of the embedded stack), and what stands for var/ in /var/tmp
	@$(PYTHON) -I -S sagaproject/embedded/outside.py var
	rm -rf $(VENV) var

# Made again when the requirements change. Every file is pinned with its hashes (.ci/pin).
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes

$(STACK): requirements.txt requirements-stack.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 …"; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || { echo "making $(VENV) …"; rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot make $(VENV): install its venv module (Debian: python3-venv)."; exit 1; }
	@echo "installing what requirements-stack.txt names (a minute) …"
	@$(INSTALL) -r requirements-stack.txt
	@touch $@

$(TOOLS): requirements-dev.txt $(STACK)
	@echo "installing what requirements-dev.txt names (a minute) …"
	@$(INSTALL) -r requirements-dev.txt
	@touch $@
