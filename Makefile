# Two commands do everything on a machine that has Python 3.11 to 3.14, make and the package registries:
#   make demo     make test
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-ops test-image test-long fuzz chaos mutants bench profile release-check lint format docs lock chart chart-crds \
	chart-package kafka-jars clean

demo: $(VENV)/.embedded
	@$(BIN)/call-processor demo $(ARGS)

# In three processes, each with servers of its own, as most tests wait; a file's tests stay together, the longest files begin.
# Bytecode is kept, even where the environment says otherwise: each process that a test starts would compile it again.
test: $(VENV)/.dev
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m "not long and not ops and not image" --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# What needs Debian packages, or root on Linux.
test-ops: $(VENV)/.dev
	@$(BIN)/python -m pytest -m ops $(ARGS)

# The image, with a Docker daemon; PYTHON_IMAGE=... builds on another base.
test-image: $(VENV)/.dev
	@$(BIN)/python -m pytest -m image $(ARGS)

# The laws of codec, columns, counting and sinks on a hundred times as many cases, and what is too long for `make test`:
# an hour and more.
test-long: $(VENV)/.dev
	@$(BIN)/python -m pytest -m long $(ARGS)
	@HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest --timeout=0 tests/property tests/contract/test_sink_machine.py $(ARGS)

# Calls are posted while everything breaks, then every number is compared: ARGS="--events 1000000 --faults 100 --seed 1"
chaos: $(VENV)/.dev
	@$(BIN)/python -m tests.chaos $(ARGS)

# Each guard of the protocol is taken away, one at a time: the proof must notice.
mutants: $(VENV)/.dev
	@$(BIN)/python -m tests.mutants $(ARGS)

# Mutated requests and records at a live door and worker; ARGS="--bodies 1000000 --records 1000000" is the long run.
fuzz: $(VENV)/.dev
	@$(BIN)/python -m tests.fuzz $(ARGS)

# Throughput, latency, CPU and memory beside what others would run instead; ARGS="--quick" guards the ratios.
bench: $(VENV)/.dev
	@$(BIN)/python -m bench $(ARGS)

# Where each microsecond goes, worker and door.
profile: $(VENV)/.dev
	@$(BIN)/python -m bench.profile $(ARGS)

# Before a version is published: ARGS="--tag v1.2.3 --into dist" is what the release workflow does.
release-check: $(VENV)/.dev
	@$(BIN)/python -m tests.release $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# docs/metrics.md, from the declarations in processor/metrics.py.
docs: $(VENV)/.dev
	@$(BIN)/python -m tests.metrics_page

# The locks name versions and hashes only; they carry no address of a package index.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url $(UPGRADE)
lock: $(VENV)/.dev
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) pyproject.toml -c requirements/runtime.txt --extra embedded --group build -o requirements/embedded.txt
	$(LOCK) pyproject.toml -c requirements/embedded.txt --extra embedded --group build --group dev -o requirements/dev.txt
	$(LOCK) --group build -c requirements/embedded.txt -o requirements/build.txt
	$(LOCK) requirements/bench.in -o requirements/bench.txt

# What of the chart is generated: its README, the part of its schema that follows from the settings, the default render.
chart: $(VENV)/.dev
	@$(BIN)/python -m tests.chart

# The published schemas of custom resources that the chart may make, from their Go modules (needs `go`).
chart-crds: $(VENV)/.dev
	@$(BIN)/python -m tests.chart.fetch_crds

# A package to push to a registry, see helm/README.md.
chart-package: $(VENV)/.dev
	@$(BIN)/python -m pytest -q tests/chart
	@$(BIN)/python -c 'import helm_python; print(helm_python.package("helm", destination="dist"))'

# Which files make up the embedded Kafka, and their sha256 sums (after a change of COORDINATES in jars.py).
kafka-jars: $(VENV)/.embedded
	$(BIN)/python -m processor.embedded.jars

$(VENV)/bin/python:
	@for python in "$${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do \
		if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then \
			exec "$$python" -m venv $(VENV); \
		fi; \
	done; \
	echo "call-processor needs Python 3.11 to 3.14: install one of them (for example python3.13 with its venv module), or set PYTHON." >&2; \
	exit 3

INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(VENV)/.embedded: requirements/embedded.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing the locked packages into $(VENV) (about a minute the first time)"
	@$(INSTALL) --require-hashes -r requirements/embedded.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.embedded
	@echo "installing the locked tools for development into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# What `make bench` compares with, and py-spy; made when it is needed first.
$(VENV)/.peers: requirements/bench.txt | $(VENV)/bin/python
	@echo "installing the locked tools of the comparison into $(VENV)/peers" >&2
	@$(BIN)/python -m venv $(VENV)/peers
	@$(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@

clean:
	rm -rf $(VENV) .call-processor dist
