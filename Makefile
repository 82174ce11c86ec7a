# Everything below works in a fresh clone with Python 3.11 or newer, make and a C compiler.
#   make run     a demonstration: real handshakes, client and server
#   make test    run the tests; where a peer program or library is missing, its tests are skipped by name
#   make quick   run the tests that need no peer, no process, no socket and no event loop, in under 30 seconds
#   make test-floors  run the tests of make quick, and others, with the oldest dependencies allowed
#   make check   run what continuous integration demands: fmt lint types, and the tests with branch coverage
#   make bench   measure what a handshake costs, beside others, in under five minutes; make bench-full takes longer
#   make bench-check  check that nothing got more expensive, and that attackers leave nothing behind: make bench-counts,
#                which other programs on the machine do not disturb, and make bench-times
#   make siege   attack servers in two dozen ways, and measure what they keep up; about an hour, SIEGE="--minutes 8" less
#   make test-compiled  run the engine's tests on the engine compiled by mypyc
#   make test-installed  run all tests on the compiled wheel as it is installed
#   make site    make the documentation's pages in build/site, with a warning being an error
#   make links   ask the network whether each external link of the documentation leads somewhere
#   make mutants  take behaviours out of the package, one at a time, and check that the tests notice; MUTANTS=--tested
#                where make test has just passed
#   make mutants-all  change the engine in every small way by mutmut, which takes hours and goes on where it was ended
#   make mutants-changed BASE=main  the same for the functions that differ from a commit, in two minutes
#   make security-report  put the figures of docs/figures into docs/security.md
#   make fuzz    fuzz decoders and whole conversations, FUZZ_SECONDS seconds (20) each; with FUZZ=--faulty, see each
#                fuzzer notice a fault
#   make model   explore all states of small worlds with an attacker in them, and show the attack that each switch allows
#   make compiled  build the package with its engine compiled by mypyc, in build/compiled
#   make wheels  build the sdist, the pure wheel and the compiled wheel in dist, and try the wheels as they are installed;
#                with WHEELS=all, compiled wheels for all interpreters that are found; with WHEELS=cp314, one in Debian's
#                testing release
#   make release-check  say what is missing until the version can be released
#   make bill, make api  write what an installation of the wheel brings; the public names as they are released
#   make lock    write the versions and hashes of what development needs anew
#   make format  format the code as `make fmt` demands
# Variables: PYTHON (the interpreter .venv is made from), ARGS (more arguments for pytest),
# KERBEROS (set to nothing to leave Kerberos out even where krb5-config is found),
# WORKERS (processes that share the tests, see tests/support/forks.py; 0 runs them in one).

PYTHON ?= python3
ARGS ?=
WORKERS ?= auto
# gssapi and krb5 are compiled on installation, against the Kerberos headers that come with krb5-config.
KERBEROS ?= $(shell command -v krb5-config 2>/dev/null)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# As PIP, but prints a line for each package, and all of pip's output if it fails.
INSTALL = $(BIN)/python -c "$$INSTALL_LOUDLY" install
export PIP_ROOT_USER_ACTION := ignore
# Bytecode is kept even if the environment says otherwise: each program that a test starts would compile the package.
export PYTHONDONTWRITEBYTECODE :=

# The stamps below stand for "this extra is installed as pyproject.toml asks for it".
VENV_STAMP := $(VENV)/.stamp-venv
RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev
SITE_STAMP := $(VENV)/.stamp-site
BENCH_STAMP := $(VENV)/.stamp-bench
FUZZ_STAMP := $(VENV)/.stamp-fuzz
RELEASE_STAMP := $(VENV)/.stamp-release
MUTATION_STAMP := $(VENV)/.stamp-mutation
FUZZ_SECONDS ?= 20
BASE ?= main
SIEGE ?=
MUTANTS ?=
# A virtual environment with the oldest versions of the dependencies that pyproject.toml allows.
FLOORS := build/floors
FLOORS_STAMP := build/.stamp-floors
# What runs there with its processes and event loops, too.
WHOLE_ON_FLOORS := $(addprefix tests/,cli aio/test_streams.py http/test_aiohttp.py http/test_asgi.py http/test_httpx.py \
    http/test_pair.py stores winrm)
KERBEROS_STAMP := $(VENV)/.stamp-kerberos
# The package with its engine compiled; the installation in .venv stays interpreted.
COMPILED := build/compiled
COMPILED_STAMP := build/.stamp-compiled
COMPILED_TESTS ?= $(addprefix tests/,core wire mechanisms hostile carriage aio sspi interop \
    test_config.py test_credentials.py test_fuzz.py test_md4.py test_names.py test_public_api.py test_secrets.py \
    test_tls_config.py test_values.py)
WITH_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED)

.PHONY: install install-floors fuzz model mutants mutants-all mutants-changed security-report run test quick check fmt format lint types cover interop docs site links conformance bench bench-full bench-check bench-counts bench-times siege \
    compiled compiled-if-possible test-compiled test-installed test-floors wheels release-check lock bill api clean
.DEFAULT_GOAL := check

run: $(RUN_STAMP)
	@$(BIN)/acredssp demo

test: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest --forks $(WORKERS) $(ARGS)

# This takes under 30 seconds. tests/support/quick.py derives which tests these are.
quick: $(DEV_STAMP)
	$(BIN)/pytest --quick --forks 2 $(ARGS)

check: fmt lint types cover

fmt: $(DEV_STAMP)
	$(BIN)/ruff format --check .

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

lint: $(DEV_STAMP)
	$(BIN)/ruff check .

types: $(DEV_STAMP)
	$(BIN)/mypy

# Runs all tests. Branch coverage is measured during the engine's own (tests/support/covering.py); the threshold is
# fail_under in pyproject.toml.
cover: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest --forks $(WORKERS) --cov $(ARGS)

# Runs only the tests against real peers.
interop: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest --forks $(WORKERS) -m interop $(ARGS)

# Checks the README against the tree: its examples, commands and tables.
docs: $(DEV_STAMP)
	$(BIN)/pytest tests/test_readme.py $(ARGS)

# Pictures of state machines need graphviz; without it they are text.
# The site is made anew beside the old one, so that a build that was interrupted spoils neither it nor the next build.
site: $(SITE_STAMP)
	@rm -rf build/site.new
	$(BIN)/sphinx-build -q -n -W --keep-going -E -d build/site.new/.doctrees -b html docs build/site.new
	@rm -rf build/site && mv build/site.new build/site
	@echo "file://$(CURDIR)/build/site/index.html"

# No part of `make check`: a server that does not answer is no fault of the tree's. build/links/output.txt has the answers.
links: $(SITE_STAMP)
	@$(BIN)/sphinx-build -q -E -d build/links/.doctrees -b linkcheck docs build/links

# Writes docs/conformance.md, docs/sspi.md, docs/gateway-settings.md, docs/findings.md, the hints in docs/statuses.md, the
# pictures of the states in docs/architecture.md and the manual pages in docs/man; the tests fail where one is stale.
conformance: $(DEV_STAMP)
	$(BIN)/pytest --collect-only -q --conformance=write >/dev/null
	PYTHONPATH=tests $(BIN)/python -m support.settings_page
	PYTHONPATH=tests $(BIN)/python -m support.findings_page
	PYTHONPATH=tests $(BIN)/python -m support.statuses_page
	PYTHONPATH=tests $(BIN)/python -m support.man_pages
	PYTHONPATH=tests $(BIN)/python -m support.state_pictures

# Writes its table, its figures as JSON and its plots to benchmarks/report.
bench: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks --mode full $(ARGS)

# The exit status is 0 if nothing got more expensive and a silent KDC delays no other logon. Otherwise the output says
# what failed.
bench-check:
	$(MAKE) --no-print-directory bench-counts
	$(MAKE) --no-print-directory bench-times

bench-counts: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks.check --part counts

bench-times: $(BENCH_STAMP) $(KERBEROS_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks.check --part times
	$(BIN)/python -m benchmarks.stalled_kdc
	$(BIN)/python -m benchmarks.siege --check

# Writes its figures and plots to benchmarks/report/siege. SIEGE="--attack hellos" makes one attack, and
# SIEGE=--into-docs puts the figures of the last run into docs/figures.
siege: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks.siege $(SIEGE)

# `PYTHONPATH=build/compiled .venv/bin/python -P` runs the interpreter of .venv with the compiled package.
compiled: $(COMPILED_STAMP)

# Never fails: if the engine cannot be compiled, the benchmarks of the compiled engine are left out by name.
compiled-if-possible:
	@$(MAKE) --no-print-directory compiled || true

# What asyncio's debug mode finds does not depend on how the engine is built, nor on the age of its dependencies.
BOTH_LOOPS := --loop asyncio --loop uvloop

# Runs the tests of the compiled modules; tests/compiled.py checks that the compiled engine is the one that ran.
test-compiled: $(DEV_STAMP) $(KERBEROS_STAMP) $(COMPILED_STAMP)
	$(WITH_COMPILED) $(BIN)/pytest $(BOTH_LOOPS) --forks $(WORKERS) tests/compiled.py $(COMPILED_TESTS) $(ARGS)

# Each target runs in a process of its own; what it finds is kept in build/fuzz. `python -m fuzz --help` says more.
fuzz: $(FUZZ_STAMP)
	$(BIN)/python -m fuzz run --seconds $(FUZZ_SECONDS) $(FUZZ)

# `make model MODEL="--wide relay"` explores one world with wider bounds, `MODEL=--draw=mermaid` draws what is found.
model: $(DEV_STAMP)
	@PYTHONPATH=tests $(BIN)/python -m model $(MODEL)

# To run one mutant, name its requirement or some words: `.venv/bin/python tests/mutants.py R25 "key of zeros"`.
mutants: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/python tests/mutants.py $(MUTANTS)

# To run it for some files, name them: `.venv/bin/python tests/machine_mutants.py core/binding.py`.
mutants-all: $(MUTATION_STAMP)
	$(BIN)/python tests/machine_mutants.py --write $(ARGS)

# The functions that differ from BASE, for two minutes at most.
mutants-changed: $(MUTATION_STAMP)
	$(BIN)/python tests/machine_mutants.py --changed $(BASE) --seconds 120

security-report: $(DEV_STAMP)
	PYTHONPATH=tests $(BIN)/python -m support.security_page

# Checks that the oldest dependencies that pyproject.toml allows work. The other tools are the newest. All cases of a test
# call a dependency in the same way, so three of each will do; ARGS=--thorough runs them all.
test-floors: $(FLOORS_STAMP)
	$(FLOORS)/bin/pytest --quick --sockets --forks 2 $(addprefix --ignore ,tests/model $(WHOLE_ON_FLOORS)) $(ARGS)
	$(FLOORS)/bin/pytest $(BOTH_LOOPS) --forks $(WORKERS) $(WHOLE_ON_FLOORS) $(ARGS)

# Compiles a wheel of a copy of the files that git knows, and installs it into an environment outside of this folder.
test-installed: $(RELEASE_STAMP)
	@$(BIN)/python -c "$$CHECK_COMPILER"
	@PYTHONPATH=.ci $(BIN)/python -m release.installed --forks $(WORKERS) $(ARGS)

# Builds of a copy of the files that git knows, as they are now.
wheels: $(RELEASE_STAMP)
	@$(BIN)/python -c "$$CHECK_COMPILER"
	@PYTHONPATH=.ci $(BIN)/python -m release.wheels $(WHEELS)

# docs/releasing.md says what else belongs to a release.
release-check: $(RELEASE_STAMP)
	@PYTHONPATH=.ci $(BIN)/python -m release.check

# Writes .ci/release/acredssp.cdx.json, which says what an installation of the wheel brings, and goes into the wheel.
bill: $(RELEASE_STAMP)
	@PYTHONPATH=.ci $(BIN)/python -m release.bill

# Writes .ci/release/api.json: the public names as they are released.
api: $(RELEASE_STAMP)
	@PYTHONPATH=.ci $(BIN)/python -m release.api record

# Writes .ci/release/requirements.txt, the versions and hashes of everything that development needs.
lock: $(RELEASE_STAMP)
	@PYTHONPATH=.ci $(BIN)/python -m release.supply lock

clean:
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *__mypyc*.so
	find acredssp -name '*.so' -delete

# This uses old syntax on purpose: an interpreter that is too old must be able to run it and say so.
define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("acredssp needs Python 3.11 or newer and $(PYTHON) is %d.%d: try make PYTHON=python3.12" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) has no venv module: apt-get install python3-venv, or make PYTHON=another-python")
endef
export CHECK_PYTHON

define INSTALL_LOUDLY
import re, subprocess, sys
pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--no-color", *sys.argv[1:]]
steps = {
    "finding": r"(?:Collecting|Obtaining dependency information for) (\w[\w.-]*)",
    "fetching": r"Downloading (?:https?:\S*/)?(\w[\w.]*)-\S*\.(?:whl|tar\.gz|zip)(?!\.metadata)",
    "building": r"Building wheel for (\S+) .*: started",
}
said = []
with subprocess.Popen(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
    for line in process.stdout:
        said.append(line)
        for step, pattern in steps.items():
            if found := re.match(pattern, line.strip()):
                print("  " + step, found[1].replace("_", "-"), flush=True)
        if line.startswith("Installing collected packages:"):
            print("  installing", line.count(",") + 1, "packages", flush=True)
sys.exit(process.returncode and "".join(said))
endef
export INSTALL_LOUDLY

define CHECK_COMPILER
import os, shlex, shutil, sys, sysconfig
compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
if shutil.which(compiler) is None:
    sys.exit(f"there is no C compiler {compiler} to compile acredssp by: apt-get install gcc, or name one with make CC=...")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    sys.exit("there is no Python.h to compile acredssp against: apt-get install python3-dev")
endef
export CHECK_COMPILER

$(VENV_STAMP):
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "there is no $(PYTHON): install Python 3.11 or newer, or name one with make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c "$$CHECK_PYTHON"
	@echo "making $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(RUN_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp with its command line into $(VENV)"
	@$(INSTALL) --editable '.[cli,uvloop]'
	@touch $@

$(DEV_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and its development tools into $(VENV)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(RUN_STAMP) $(SITE_STAMP) $(BENCH_STAMP)

$(SITE_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and what its documentation's site is made with into $(VENV)"
	@$(INSTALL) --editable '.[docs]'
	@touch $@ $(RUN_STAMP)

$(BENCH_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and what its benchmarks need into $(VENV)"
	@$(INSTALL) --editable '.[bench]'
	@touch $@

# What is there already is not touched: what was made later, such as Kerberos, would be made again.
$(FUZZ_STAMP): $(DEV_STAMP)
	@echo "installing acredssp's fuzzer into $(VENV)"
	@$(INSTALL) --editable '.[fuzz]'
	@touch $@

$(RELEASE_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and what its releases are built by into $(VENV)"
	@$(INSTALL) --editable '.[release]'
	@touch $@ $(DEV_STAMP)

$(MUTATION_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and its machine for mutants into $(VENV)"
	@$(INSTALL) --editable '.[dev,mutation]'
	@touch $@ $(DEV_STAMP)

$(FLOORS_STAMP): $(VENV_STAMP) pyproject.toml
	@rm -rf $(FLOORS)
	@mkdir -p build
	@echo "making $(FLOORS) with the oldest dependencies that pyproject.toml allows"
	@$(BIN)/python -m venv $(FLOORS)
	@$(MAKE) --no-print-directory install-floors
	@touch $@

# Everything that the goals above need in .venv.
install: $(KERBEROS_STAMP) $(BENCH_STAMP)

install-floors: BIN := $(FLOORS)/bin
install-floors:
	@$(INSTALL) uv
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python --resolution lowest-direct \
		$(addprefix --extra ,asgi cli gateway http uvloop winrm) --no-annotate --no-header \
		--output-file $(FLOORS)/floors.txt pyproject.toml
	@$(INSTALL) --constraint $(FLOORS)/floors.txt --editable '.[dev]'

# This builds from a copy: the hook leaves compiled files beside the sources, where the editable install would import
# them.
$(COMPILED_STAMP): $(VENV_STAMP) pyproject.toml $(shell find acredssp -name '*.py') .ci/release/compiling.py
	@rm -rf $@ $(COMPILED) build/source build/wheel
	@$(BIN)/python -c "$$CHECK_COMPILER"
	@echo "compiling the engine into $(COMPILED), a minute"
	@mkdir -p build/source/docs build/source/.ci/release
	@cp -R acredssp pyproject.toml README.md LICENSE build/source
	@cp -R docs/man build/source/docs
	@cp $(addprefix .ci/release/,acredssp.cdx.json compiling.py index_readme.py mypyc.ini) build/source/.ci/release
	@HATCH_BUILD_HOOKS_ENABLE=1 $(PIP) wheel --no-deps --wheel-dir build/wheel ./build/source
	@$(BIN)/python -m zipfile --extract build/wheel/*.whl $(COMPILED)
	@touch $@

# Never fails: without Kerberos, the tests that need it are skipped by name. After `make clean`, it is tried again.
# Without optimization, it compiles in a third of the time; such a build must not get into pip's cache.
$(KERBEROS_STAMP): $(DEV_STAMP)
ifneq ($(strip $(KERBEROS)),)
	@echo "compiling gssapi and krb5 into $(VENV), a minute (make KERBEROS= leaves them out)"
	@CFLAGS=-O0 $(INSTALL) --no-cache-dir --editable '.[kerberos]' 2>$(VENV)/kerberos.log \
		|| echo "Kerberos could not be compiled (see $(VENV)/kerberos.log): its tests will be skipped"
	@touch $@
endif
