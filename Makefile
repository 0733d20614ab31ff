# make demo   install what is needed, build, and show it: a container, the same explained, a machine
# make test   install what the tests need and run all of them (make test-long: the long ones too)
# make lint   ruff, mypy, C warnings as errors       make lab    a shell in the disposable machine
# make bench  side by side with the peers            make clean  remove what was built

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-long lint lab bench clean build

# The first interpreter that is new enough and can make a virtual environment; the distribution's own before others
# (a version manager's shim costs more at each start than a container does).
CANDIDATES := /usr/bin/python3 python3 python3.13 python3.12 python3.11
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c 'import sys, sysconfig; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0

PACKAGES_RUN := python3-venv python3-dev gcc libc6-dev make busybox-static
PACKAGES_TEST := $(PACKAGES_RUN) libcap-dev strace
SOURCES := pyproject.toml setup.py $(wildcard csrc/*/*)

# install(list of packages): what dpkg does not know of is installed; without root, said in one line.
define install
	missing=$$(dpkg-query -W -f='$${binary:Package} $${db:Status-Status}\n' $(1) 2>/dev/null | awk '$$2=="installed"{sub(/:.*/,"",$$1); print $$1}' | sort -u | comm -13 - <(printf '%s\n' $(1) | sort -u) | xargs); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ] && [ -z "$(SUDO)" ]; then echo "missing: $$missing (ask root: apt-get install $$missing)"; \
	  else echo "installing: $$missing"; $(SUDO) env $(APT) update; $(SUDO) env $(APT) install --no-install-recommends -y $$missing >/dev/null; fi; fi
endef

.venv/installed-run: $(SOURCES)
	@$(call install,$(PACKAGES_RUN))
	@[ -n "$(PYTHON)" ] || { echo "no Python >= 3.11 was found: install python3, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@echo "building csrc/ and installing minirt, minirt-oci and minivm into .venv/bin"
	@$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

build: .venv/installed-run

.venv/installed-test: .venv/installed-run
	@$(call install,$(PACKAGES_TEST))
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[test,lint,ui]'
	@touch $@

test: .venv/installed-test
	$(BIN)/python -m pytest tests/unit tests/system

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist *.egg-info minirt/linux/_sys.* minivm/kvm/_kvm.* minirt/plan/*.elf minirt/engine/*.elf minivm/boot/*.elf
