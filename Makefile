# make demo   install what is needed, build, and show it: a container, the same explained, a machine
# make test   install what the tests need and run all of them (make test-long: the long ones too)
# make lint   ruff, mypy, C warnings as errors       make lab    a shell in the disposable machine
# make bench  side by side with the peers            make grade  check the exercises of the lessons
# make site   the annotated source, as pages to read offline     make clean  remove what was built

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test test-long test-lab lint lab grade bench site clean build

# The first interpreter that is new enough and can make a virtual environment; the distribution's own before others
# (a version manager's shim costs more at each start than a container does).
CANDIDATES := /usr/bin/python3 python3 python3.13 python3.12 python3.11
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0

PACKAGES_RUN := python3 python3-venv python3-dev gcc libc6-dev make busybox-static nftables
PACKAGES_LAB := qemu-system-x86 mmdebstrap debian-archive-keyring e2fsprogs
# docker.io has the command docker in it up to Debian 12; after that docker-cli has
PACKAGES_PEERS = runc crun podman conmon containerd docker.io hyperfine $(shell apt-cache show docker-cli 2>/dev/null | sed -n 's/^Package: //p' | head -1)
PACKAGES_ENGINES := podman conmon containerd docker.io docker-cli
PACKAGES_CLOUD := openssh-client python3-pycdlib qemu-utils
PACKAGES_TEST = $(PACKAGES_RUN) $(PACKAGES_LAB) libcap-dev strace gdb libseccomp2 linux-libc-dev golang-github-containers-common skopeo acpica-tools qemu-utils passt iproute2 iperf3 groff-base $(PACKAGES_PEERS)
PACKAGES_TEST += git openssh-client docker-registry umoci buildah apache2-utils openssl chromium chromium-driver
SOURCES := pyproject.toml setup.py $(wildcard csrc/*/*.[chS]) $(wildcard csrc/*/*.py) $(wildcard csrc/*/*.txt) $(wildcard csrc/*/Makefile)

# install(list of packages): what dpkg does not know of is installed; what cannot be is said in one line, and the rest goes on.
define install
	missing=$$(comm -13 <(dpkg-query -W -f='$${Package} $${db:Status-Status}\n' $(1) 2>/dev/null | awk '$$2=="installed"{print $$1}' | sort -u) <(printf '%s\n' $(1) | sort -u) | xargs); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ] && [ -z "$(SUDO)" ]; then echo "missing: $$missing (ask root: apt-get install $$missing)"; \
	  else echo "installing with apt: $$missing"; $(SUDO) env $(APT) update >/dev/null || true; \
	    $(SUDO) env $(APT) install --no-install-recommends -y $$missing >/dev/null || echo "missing: $$missing (try it yourself: apt-get install $$missing)"; fi; fi
endef

.venv/installed-run: $(SOURCES)
	@$(call install,$(PACKAGES_RUN))
	@PYTHON="$(PYTHON)"; PYTHON=$${PYTHON:-/usr/bin/python3}; \
	[ -x $(BIN)/python ] || $$PYTHON -m venv .venv || { echo "no Python >= 3.11 with venv was found: name one: make PYTHON=/path/to/python3"; exit 1; }
	@echo "building csrc/ and installing minirt, minirt-oci, minivm and tutor into .venv/bin"
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[all]' || { $(BIN)/pip install -q --disable-pip-version-check -e . && \
	echo "without the packages that only some commands need: each says so when it does (.venv/bin/pip install -e '.[all]')"; }
	@$(BIN)/python -m compileall -q minirt minivm tutorials
	@touch $@

build: .venv/installed-run

demo: .venv/installed-run
	@echo "== minirt run: a command in a container of the embedded busybox image"
	@$(BIN)/minirt run --rm busybox echo 'hello from a container' || true
	@echo
	@echo "== minirt run --explain: the same, each system call of its birth with its reason and its effect"
	@$(BIN)/minirt run --explain --rm busybox echo 'hello from a container' || true
	@echo
	@echo "== minivm run: the guest kernel of csrc/guest in a machine made from KVM ioctls"
	@$(BIN)/minivm run </dev/null || true
	@echo
	@echo "== what this machine offers (minirt doctor)"
	@$(BIN)/minirt doctor || true

.venv/installed-test: .venv/installed-run
	@$(call install,$(PACKAGES_TEST))
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[test,lint]'
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[prctl]' 2>.venv/prctl.log || echo "without python-prctl, which some tests compare with (apt-get install libcap-dev; .venv/prctl.log)"
	@touch $@

test: .venv/installed-test
	@$(BIN)/python -m pytest --collect-only -qq tests/lab >.venv/collected.log || { cat .venv/collected.log; exit 1; }
	$(BIN)/python -m pytest tests/unit tests/system tests/peers -m 'not long'
	$(MAKE) test-lab

test-lab: WHICH = -m 'not long'
test-lab: .venv/installed-test
	@lacks=$$(lab/run --check) || { echo "tests/lab does not run here: $$(sed '/^processor:/,$$d' <<<"$$lacks" | paste -sd';')"; [ -z "$(CI)" ]; exit; }; \
	gcc -O1 -Wall -Wextra -Werror -static -o tests/peers/probe/probe.elf tests/peers/probe/probe.c; \
	gcc -O1 -Wall -Wextra -Werror -static -o tests/native/vsock_echo.elf tests/native/vsock_echo.c; \
	gcc -m32 -nostdlib -static -no-pie -Wl,--build-id=none,-z,noexecstack,-z,noseparate-code,-N,-Ttext=0x100000,--no-warn-rwx-segments -o tests/native/multiboot.elf tests/native/multiboot.S; \
	inputs=$$($(BIN)/python tests/lab/inputs.py) || echo "Debian's kernels could not be fetched: their tests are skipped"; \
	echo "== in the lab: tests/lab and the differential tests"; \
	lab/run --again 2 $${inputs:+--disk $$inputs} --timeout 1800 .venv/bin/python -m pytest $(WHICH) tests/lab tests/peers/test_differential.py; \
	echo "== in the lab: engines beside each other"; \
	lab/run --again 2 $(addprefix --with ,$(PACKAGES_ENGINES)) --timeout 900 .venv/bin/python -m pytest $(WHICH) tests/peers/test_limits.py tests/peers/test_systemd.py$(if $(MORE),; \
	cloud=$$($(BIN)/python tests/lab/cloud_image.py) || echo "no cloud image could be made: its test is skipped"; \
	echo "== in the lab: a cloud image"; \
	lab/run --again 1 $(addprefix --with ,$(PACKAGES_CLOUD)) $${cloud:+--disk $$cloud} --timeout 4500 .venv/bin/python -m pytest $(WHICH) tests/lab/test_minivm_cloud_lab.py; \
	echo "== in the lab: attacks and neighbours"; \
	lab/run --again 2 --timeout 900 .venv/bin/python -m pytest $(MORE))

# All of it, whatever fails on the way, and a dated report of what came of it, to be kept in the tree.
test-long: ATTACKS := tests/system/test_oci_attacks.py tests/system/test_oci_exec_attacks.py tests/system/test_oci_neighbours.py
test-long: .venv/installed-test
	@log=$$(mktemp); trap 'rm -f $$log' EXIT; status=0; \
	{ echo "== on this machine: tests/unit, tests/system, tests/peers"; \
	$(BIN)/python -m pytest --durations=20 tests/unit tests/system tests/peers; } 2>&1 | tee $$log || status=$$?; \
	$(MAKE) test-lab WHICH=--durations=20 MORE="--durations=20 $(ATTACKS)" 2>&1 | tee -a $$log || status=$$?; \
	$(BIN)/python tests/report.py $$log; exit $$status

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	@tmp=$$(mktemp -d); trap 'rm -rf $$tmp' EXIT; for d in plan init start monitor guest agent; do $(MAKE) -s -C csrc/$$d OUT=$$tmp CC='gcc -Wall -Wextra -Werror'; done; echo "C: no warnings"

lab: .venv/installed-run
	@$(call install,$(PACKAGES_LAB))
	@lab/run

grade: .venv/installed-run
	@$(BIN)/tutor grade

site: .venv/installed-run
	@$(BIN)/python -c 'import zensical' 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check -e '.[course,site]'
	@$(BIN)/python -m tutorials.tutor.site

bench: .venv/installed-test
	$(BIN)/python -m bench

clean:
	rm -rf .venv build dist *.egg-info minirt/linux/_sys.*.so minirt/linux/_sys.[co] minivm/kvm/_kvm.*.so minivm/kvm/_kvm.[co] minirt/plan/*.elf minirt/engine/*.elf minivm/boot/*.elf minivm/boot/*.bin
