# Every target does its own set-up on a fresh Debian or Ubuntu machine, and can be repeated.
BIN := .venv/bin

.PHONY: test lint demo bench setup
.DEFAULT_GOAL := test

# Tests of what containers see start real ones: as root all tests run, otherwise these are skipped with a line that says so.
#   make test PYTEST='tests/runtime -k userns'
PYTEST ?=
test: setup
	@$(BIN)/pytest $(PYTEST); status=$$?; \
	if [ $$status = 5 ]; then echo "no test was found: $(PYTEST)" >&2; fi; \
	exit $$status

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A container under runc that gets a GPU; a simulated one where the host has none.
demo: setup
	@$(BIN)/python demo/demo.py

# What the hook costs on this machine; needs root. `make bench CHART=docs/cost.svg`
bench: setup
	@$(BIN)/python benchmarks/bench.py $(if $(CHART),--chart $(CHART))

setup:
	@.ci/setup
