# Everything below works in a fresh clone with Python 3.11 or newer, make and a C compiler.
#   make run     a demonstration: real handshakes, client and server
#   make test    the tests; a missing peer program or library is a named skip
#   make quick   the tests for the inner loop of work: what needs no peer, no other process and no event loop matrix
#   make test-floors  the tests of make quick, and those of the command line, with the oldest dependencies allowed
#   make check   what continuous integration asks for: fmt lint types, and the tests with branch coverage
#   make bench   what it costs, beside what others cost, under five minutes; make bench-full takes longer
#   make bench-check  what may not get more expensive
#   make test-compiled  the tests of the engine, on the engine compiled by mypyc
#   make mutants  takes behaviours out of the package, one at a time, and sees that the tests notice
#   make compiled  the package with its engine compiled by mypyc, in build/compiled
#   make format  write what `make fmt` would ask for
# Variables: PYTHON (the interpreter .venv is made from), ARGS (more arguments for pytest),
# KERBEROS (set to nothing to leave Kerberos out even where krb5-config is found).

PYTHON ?= python3
ARGS ?=
# gssapi and krb5 are compiled on installation against the Kerberos headers that krb5-config stands for.
KERBEROS ?= $(shell command -v krb5-config 2>/dev/null)

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
# The same, with a line for each package, and all that pip said where it fails.
INSTALL = $(BIN)/python -c "$$INSTALL_LOUDLY" install
export PIP_ROOT_USER_ACTION := ignore

# The stamps below stand for "this extra is installed as pyproject.toml asks for it".
VENV_STAMP := $(VENV)/.stamp-venv
RUN_STAMP := $(VENV)/.stamp-run
DEV_STAMP := $(VENV)/.stamp-dev
BENCH_STAMP := $(VENV)/.stamp-bench
# A virtual environment with the oldest versions of what pyproject.toml has acredssp depend on.
FLOORS := build/floors
FLOORS_STAMP := build/.stamp-floors
KERBEROS_STAMP := $(VENV)/.stamp-kerberos
# The package with its engine compiled; what is installed into .venv stays interpreted.
COMPILED := build/compiled
COMPILED_STAMP := build/.stamp-compiled
COMPILED_TESTS ?= $(addprefix tests/,core wire mechanisms hostile carriage aio sspi interop \
    test_config.py test_credentials.py test_md4.py test_names.py test_secrets.py test_tls_config.py test_values.py)
WITH_COMPILED := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(COMPILED)

.PHONY: install-floors mutants run test quick check fmt format lint types cover interop docs conformance bench bench-full bench-check \
    compiled compiled-if-possible test-compiled test-floors clean
.DEFAULT_GOAL := check

run: $(RUN_STAMP)
	@$(BIN)/acredssp demo

test: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest $(ARGS)

# Under 30 seconds. Which tests these are is derived, not listed: tests/support/quick.py. Bytecode is kept even where the
# environment says otherwise: a sixth of the time would go into compiling the same test files each time.
quick: $(DEV_STAMP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --quick $(ARGS)

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

# All tests, layer test included, under branch coverage; the threshold is fail_under in pyproject.toml.
cover: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest --cov $(ARGS)

# Only the tests against real peers.
interop: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/pytest -m interop $(ARGS)

# Holds the README against the tree: its examples, commands and tables.
docs: $(DEV_STAMP)
	$(BIN)/pytest tests/test_readme.py $(ARGS)

# Writes docs/conformance.md; the tests fail where it is stale.
conformance: $(DEV_STAMP)
	$(BIN)/pytest --collect-only -q --conformance=write >/dev/null

# Leaves its table, its figures as JSON and its plots in benchmarks/report.
bench: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks $(ARGS)

bench-full: $(BENCH_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks --mode full $(ARGS)

# Exit status 0: nothing got more expensive, and a silent KDC holds nobody up; else: something did, and which.
bench-check: $(BENCH_STAMP) $(KERBEROS_STAMP) compiled-if-possible
	$(BIN)/python -m benchmarks.check
	$(BIN)/python -m benchmarks.stalled_kdc

# `PYTHONPATH=build/compiled .venv/bin/python -P` is the interpreter of .venv with this in place of the sources.
compiled: $(COMPILED_STAMP)

# Never fails: what cannot be compiled is left out, by name.
compiled-if-possible:
	@$(MAKE) --no-print-directory compiled || true

# The tests of what is compiled; tests/compiled.py holds that the compiled engine is what ran.
test-compiled: $(DEV_STAMP) $(KERBEROS_STAMP) $(COMPILED_STAMP)
	$(WITH_COMPILED) $(BIN)/pytest tests/compiled.py $(COMPILED_TESTS) $(ARGS)

# One alone, by requirement or words of its behaviour: `.venv/bin/python tests/mutants.py R25 "key of zeros"`.
mutants: $(DEV_STAMP) $(KERBEROS_STAMP)
	$(BIN)/python tests/mutants.py

# What pyproject.toml allows must work: its lower bounds are what is installed here. The other tools are the newest.
test-floors: $(FLOORS_STAMP)
	$(FLOORS)/bin/pytest --quick $(ARGS)
	$(FLOORS)/bin/pytest tests/cli tests/aio/test_streams.py $(ARGS)

clean:
	rm -rf $(VENV) .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *__mypyc*.so
	find acredssp -name '*.so' -delete

# Old syntax on purpose: the line that says "too old" must run on what is too old.
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
	@$(INSTALL) --editable '.[cli,fast,uvloop]'
	@touch $@

$(DEV_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and its development tools into $(VENV)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(RUN_STAMP)

$(BENCH_STAMP): $(VENV_STAMP) pyproject.toml
	@echo "installing acredssp and what its benchmarks need into $(VENV)"
	@$(INSTALL) --editable '.[bench]'
	@touch $@

$(FLOORS_STAMP): $(VENV_STAMP) pyproject.toml
	@rm -rf $(FLOORS)
	@mkdir -p build
	@echo "making $(FLOORS) with the oldest dependencies that pyproject.toml allows"
	@$(BIN)/python -m venv $(FLOORS)
	@$(MAKE) --no-print-directory install-floors
	@touch $@

install-floors: BIN := $(FLOORS)/bin
install-floors:
	@$(INSTALL) uv
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python --resolution lowest-direct --extra cli --extra fast \
		--extra uvloop --no-annotate --no-header --output-file $(FLOORS)/floors.txt pyproject.toml
	@$(INSTALL) --constraint $(FLOORS)/floors.txt --editable '.[dev]'

# Built from a copy: the hook leaves what it compiles beside the sources, where the editable install would import it.
$(COMPILED_STAMP): $(VENV_STAMP) pyproject.toml $(shell find acredssp -name '*.py')
	@rm -rf $@ $(COMPILED) build/source build/wheel
	@$(BIN)/python -c "$$CHECK_COMPILER"
	@echo "compiling the engine into $(COMPILED), a minute"
	@mkdir -p build/source
	@cp -R acredssp pyproject.toml README.md LICENSE build/source
	@HATCH_BUILD_HOOKS_ENABLE=1 $(PIP) wheel --no-deps --wheel-dir build/wheel ./build/source
	@$(BIN)/python -m zipfile --extract build/wheel/*.whl $(COMPILED)
	@touch $@

# Never fails: without Kerberos the tests that need it are skipped by name. `make clean` has it tried again.
# Unoptimized, it compiles in a third of the time; such a build has no place in pip's cache.
$(KERBEROS_STAMP): $(DEV_STAMP)
ifneq ($(strip $(KERBEROS)),)
	@echo "compiling gssapi and krb5 into $(VENV), a minute (make KERBEROS= leaves them out)"
	@CFLAGS=-O0 $(INSTALL) --no-cache-dir --editable '.[kerberos]' 2>$(VENV)/kerberos.log \
		|| echo "Kerberos could not be compiled (see $(VENV)/kerberos.log): its tests will be skipped"
	@touch $@
endif
