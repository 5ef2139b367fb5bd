# Every target does its own set-up on a fresh Debian or Ubuntu machine, and can be repeated.
BIN := .venv/bin

.PHONY: test attack stress lint demo bench setup man deb
.DEFAULT_GOAL := test

# Tests of what containers see start real ones: as root all tests run, otherwise these are skipped with a line that says so.
#   make test PYTEST='tests/runtime -k userns'
PYTEST ?=
test: setup
	@$(BIN)/pytest $(PYTEST); status=$$?; \
	if [ $$status = 5 ]; then echo "no test was found: $(PYTEST)" >&2; fi; \
	exit $$status

# All of tests/attack at length, some 15 minutes, as root: every trap at every component, races of a minute, a kill at
# every system call. `make test` tries some of each. The last lines say what was tried, and what got out.
attack: setup
	@OCI_GPU_ATTACK_FULL=1 OCI_GPU_FUZZ_EXAMPLES=$${OCI_GPU_FUZZ_EXAMPLES:-2000} $(BIN)/pytest tests/attack -q --timeout=3600

# 200 containers on a host with eight GPUs, started and killed at random; who held what, and that none is lost. As root.
#   make stress CONTAINERS=1000
stress: setup
	@OCI_GPU_STRESS_CONTAINERS=$(or $(CONTAINERS),200) $(BIN)/pytest tests/runtime/test_lease_stress.py -q --timeout=3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A container under runc that gets a GPU; a simulated one where the host has none.
demo: setup
	@$(BIN)/python demo/demo.py

# What the hook costs on this machine; needs root. `make bench CHART=docs/cost.svg`
bench: setup
	@$(BIN)/python benchmarks/bench.py $(if $(CHART),--chart $(CHART))

setup:
	@.ci/setup

# The man pages, in build/man.
man: setup
	@$(BIN)/python package/manuals.py build/man

# The Debian package, in dist; needs dpkg-deb, and no root.
deb: setup
	@package/deb.sh dist
