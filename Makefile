# `make` lists what there is, by the first line of the comment above each target; the lines below it are for who reads on.
# Every target does its own set-up on a fresh Debian or Ubuntu machine (.ci/setup), says before what it will install, and can
# be repeated.
BIN := .venv/bin

.PHONY: help test attack stress matrix engines lint demo bench setup docs man deb release
.DEFAULT_GOAL := help

# list what there is
help:
	@awk '/^#/ { if (!said) said = substr($$0, 3); next } \
	      /^[a-z-]+:/ && said { sub(/:.*/, ""); printf "  make %-9s %s\n", $$0, said } \
	      { said = "" }' $(firstword $(MAKEFILE_LIST))

# run all tests; as root, or those that start containers are skipped with a line that says so
#   make test PYTEST='tests/runtime -k userns'        these alone, one after the other
# All of them run in one process more than there are processors, up to four, for many of them wait: for an engine, a guest.
# tests/conftest.py says what runs side by side.
test: setup
	@$(BIN)/pytest $(or $(PYTEST),-n $$(n=$$(nproc); echo $$((n < 3 ? n + 1 : 4)))); status=$$?; \
	if [ $$status = 5 ]; then echo "no test was found: $(PYTEST)" >&2; fi; \
	exit $$status

# run tests/attack at length, some 15 minutes, as root
# Every trap at every component, races of a minute, a kill at every system call; `make test` tries some of each. The last
# lines say what was tried, and what got out.
attack: setup
	@OCI_GPU_ATTACK_FULL=1 OCI_GPU_FUZZ_EXAMPLES=$${OCI_GPU_FUZZ_EXAMPLES:-2000} $(BIN)/pytest tests/attack -q --timeout=3600

# start and kill 200 containers, pods and Slurm jobs and 100 replicas on eight GPUs, as root; no GPU may be lost or doubled
#   make stress CONTAINERS=1000
stress: setup
	@OCI_GPU_STRESS_CONTAINERS=$(or $(CONTAINERS),200) OCI_GPU_STORM_PODS=$(or $(CONTAINERS),200) \
	$(BIN)/pytest tests/runtime/test_lease_stress.py tests/engines/test_pod_storm.py -q --timeout=3600
	@OCI_GPU_SLURM_JOBS=$(or $(CONTAINERS),200) $(BIN)/pytest tests/slurm/test_storm.py -q --timeout=3600
	@OCI_GPU_SWARM_REPLICAS=$(or $(CONTAINERS),100) $(BIN)/pytest tests/swarm -k storm -q --timeout=3600

# run the tests on each Python that is claimed, then `make engines`, as root, in root directories that debootstrap makes
#   make matrix ROOTS="trixie sid" PYTEST='tests/unit -k elf'        these tests alone
# They are kept in $XDG_CACHE_HOME or /var/cache; CONTRIBUTING.md says more.
matrix: setup
	@$(BIN)/python -m tests.matrix $(ROOTS) $(if $(PYTEST),-- $(PYTEST))
	@$(if $(PYTEST),:,$(MAKE) --no-print-directory engines)

# start every engine of Debian 12, 13 and unstable, each booted by systemd, as root, and write docs/engines.md's table
#   make engines DISTRIBUTIONS=trixie        one of them, which writes nothing
engines: setup
	@OCI_GPU_DISTRIBUTIONS="$(or $(DISTRIBUTIONS),bookworm trixie sid)" OCI_GPU_TABLE=$(if $(DISTRIBUTIONS),,1) \
	$(BIN)/pytest tests/distributions
	@for release in $(or $(DISTRIBUTIONS),bookworm trixie sid); do \
	OCI_GPU_RELEASE=$$release $(BIN)/pytest -q tests/systemd || exit; done

# check style and types
lint:
	@.ci/setup lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# start a container that gets a GPU, a simulated one where the host has none, as root
demo:
	@.ci/setup demo
	@$(BIN)/python -u demo/demo.py

# measure what the hook costs on this machine, as root
#   make bench CHART=docs/cost.svg
bench:
	@.ci/setup bench
	@$(BIN)/python benchmarks/bench.py $(if $(CHART),--chart $(CHART))

# make this machine ready for all of these: packages by apt as root, a virtual environment in .venv
setup:
	@.ci/setup

# build the site of the documentation into build/site; a link that leads nowhere is an error
docs:
	@.ci/setup docs
	@$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@$(BIN)/python package/website.py

# write the man pages into build/man
man:
	@.ci/setup man
	@$(BIN)/python package/manuals.py build/man

# build the Debian package into dist; needs dpkg-deb, and no root
deb:
	@.ci/setup deb
	@package/deb.sh dist

# build wheel, source archive and Debian package into dist, and check them; docs/releasing.md
# It sends nothing anywhere.
release:
	@.ci/setup release
	@$(BIN)/python package/release.py dist
