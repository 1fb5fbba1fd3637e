# What people and CI run. Each target installs what it needs with apt, and says so.

TARGET := x86_64-unknown-linux-gnu
AGENT := target/$(TARGET)/agent/upright

.PHONY: help requirements programs agent demo demo-secure demo-virtual test test-bootloaders test-power-cut test-faults arm64-tools agent-arm64 test-arm64 lint deny unit bench fuzz fuzz-smoke install

help:
	@echo 'make demo          a real Debian in QEMU: boot, update, rollback, a release that fails and is left'
	@echo 'make demo-virtual  the same on a simulated host, in seconds'
	@echo 'make demo-secure   Secure Boot and dm-verity in QEMU: what is not signed does not start, a flipped bit is not read'
	@echo 'make test          everything that guards the project'
	@echo 'make test-power-cut  power goes at every instant of an update, a commit and a rollback in QEMU: half an hour or more'
	@echo 'make test-faults   releases that hang or crash and disks that fail, in QEMU: half an hour or more'
	@echo 'make test-bootloaders  the demo with GRUB on UEFI and on BIOS, and without a boot loader, instead of systemd-boot; U-Boot on an Arm machine'
	@echo 'make test-arm64    the agent for arm64, cross-built, and its slots and boot loaders under QEMU user mode'
	@echo 'make bench         builds, installs and updates measured beside those of others, on real Debian trees'
	@echo 'make fuzz          each fuzz target for ten minutes, or SECONDS=N'
	@echo 'make lint, unit, fuzz-smoke, deny   parts of it, and more'
	@echo 'make agent, install DESTDIR=ROOTFS            the static agent, and everything a host needs into a root file system'

requirements:
	@tests/install-requirements

programs: requirements
	cargo build --workspace --bins

# One static program; its target folder is its own, since build scripts and macros must stay dynamic. Packed relocations
# and no tables for unwinding, which a program that aborts has no use for, make it smaller (updater/agent.ld), and so does
# leaving out what compressors assert to themselves.
AGENT_FLAGS := -C target-feature=+crt-static -C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs
agent: requirements
	CFLAGS=-DNDEBUG RUSTFLAGS='$(AGENT_FLAGS)' cargo rustc --profile agent --target $(TARGET) -p upright-updater --no-default-features \
		--bin upright -- -C link-arg=-Wl,-T,updater/agent.ld

demo: programs agent
	target/debug/demo --agent $(AGENT) --work target/demo

demo-secure: programs agent
	target/debug/demo --secure-boot --agent $(AGENT) --work target/demo-secure

demo-virtual: programs
	target/debug/demo --virtual --work target/demo-virtual

# The agent is linked by one thread, and machines wait much of their time; both leave a processor idle.
test: lint unit demo-virtual
	$(MAKE) --jobs=2 --output-sync=target fuzz-smoke agent
	$(MAKE) --jobs=2 --output-sync=target demo demo-secure

# What every power cut would leave of a real disk, each state judged and one of each class booted. SEED=N draws other orders.
SEED := 1
test-power-cut: programs agent
	cargo build --release -p upright-tests --bin power-cut
	UPRIGHT_PROGRAMS=target/debug target/release/power-cut --agent $(AGENT) --work target/power-cut --seed $(SEED)

# Releases that do not come up, and disks that fail while one is written, on a machine with a hardware watchdog. CASES='panic verity' runs those.
test-faults: programs agent
	target/debug/faults --agent $(AGENT) --work target/faults $(CASES)

# Beside `make test`, whose in-process tests hold every back end to the same behaviour: the real boot loaders, one after the other.
test-bootloaders: programs agent
	@tests/install-requirements bootloaders
	target/debug/demo --counting grub --work target/counting-grub
	target/debug/demo --counting u-boot --work target/counting-u-boot
	target/debug/demo --boot-loader grub --agent $(AGENT) --work target/demo-grub
	target/debug/demo --boot-loader grub-bios --agent $(AGENT) --work target/demo-grub-bios
	target/debug/demo --boot-loader efi --agent $(AGENT) --work target/demo-efi

lint: requirements
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings

# nextest where it is installed: it says which test hangs.
unit: programs target/interop/ready target/interop-tough/debug/upright-tough
	if cargo nextest --version >/dev/null 2>&1; then $(PYTHON) cargo nextest run --workspace; else $(PYTHON) cargo test --workspace; fi

# python-tuf, which Debian 12 does not have, is an oracle of the tests.
PYTHON := UPRIGHT_PYTHON='$(CURDIR)/target/interop/bin/python'
target/interop/ready: tests/interop/requirements.txt
	python3 -m venv --clear target/interop
	target/interop/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# tough is another: its own lock file and folder, since its crypto stack is not ours.
TOUGH := tests/interop/tough
target/interop-tough/debug/upright-tough: $(TOUGH)/src/main.rs $(TOUGH)/Cargo.toml $(TOUGH)/Cargo.lock | requirements
	cargo build --quiet --locked --manifest-path $(TOUGH)/Cargo.toml --target-dir target/interop-tough

# A minute for each target, two at a time on each processor: four minutes on two processors, after the build.
FUZZ_SECONDS := 60
fuzz-smoke: requirements
	fuzz/run $(FUZZ_SECONDS)

SECONDS := 600
fuzz: requirements
	fuzz/run $(SECONDS)

deny:
	cargo deny check licenses bans sources

# Figures and docs/benchmarks/, beside what Debian has for the same job: an hour or two of CPU the first time, and what still
# holds is not measured again. TREES=DIR takes A.tar, B.tar and C.tar from there.
bench: agent
	@tests/install-requirements bench
	cargo build --release -p upright-image-builder -p upright-tests --bin upright-build --bin bench
	target/release/bench --agent $(AGENT) $(if $(TREES),--trees '$(abspath $(TREES))') --write-docs

# The agent for arm64, and its tests under QEMU's user mode: the same story as `make demo-virtual`, and what slots and boot loaders,
# U-Boot's among them, are tested with. Ends with a message where Debian's compiler for it is not to be had. UPRIGHT_STARTED: the
# agent starts itself anew for its memory's sake, which this machine's kernel would be asked to do with a program for another. What starts
# programs is tested one after the other: QEMU's user mode may hang in a fork while another thread works.
ARM64 := aarch64-unknown-linux-gnu
ARM64_TOOLS := $(CURDIR)/target/arm64-toolchain
ARM64_CARGO := RUSTC=$(ARM64_TOOLS)/usr/bin/rustc RUSTFLAGS='-C target-feature=+crt-static' CARGO_TARGET_DIR=target/arm64 \
	CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static cargo
arm64-tools:
	@tests/install-requirements arm64
	tests/arm64-toolchain $(ARM64_TOOLS)

agent-arm64: arm64-tools
	$(ARM64_CARGO) build --profile agent --target $(ARM64) -p upright-updater --no-default-features --bin upright

test-arm64: programs arm64-tools
	$(ARM64_CARGO) build --target $(ARM64) -p upright-updater --bin upright
	mkdir -p target/arm64/programs
	ln -sf $(CURDIR)/target/debug/upright-build target/arm64/programs/upright-build
	printf '#!/bin/sh\nexport UPRIGHT_STARTED=1\nexec qemu-aarch64-static %s "$$@"\n' $(CURDIR)/target/arm64/$(ARM64)/debug/upright > target/arm64/programs/upright
	chmod +x target/arm64/programs/upright
	UPRIGHT_ARCH=arm64 UPRIGHT_PROGRAMS=target/arm64/programs UPRIGHT_BOOT_FILES=$(ARM64_TOOLS)/usr/lib/systemd/boot/efi \
		target/debug/demo --virtual --work target/demo-arm64
	$(ARM64_CARGO) test --target $(ARM64) -p upright-updater --lib -- boot:: slot:: machine:: store:: --skip custom::
	$(ARM64_CARGO) test --target $(ARM64) -p upright-updater --lib -- boot::conformance::custom:: boot::custom:: --test-threads=1

install: programs agent
	$(MAKE) -C dist install DESTDIR='$(abspath $(DESTDIR))' UPRIGHT='$(abspath $(AGENT))' MANUAL='$(abspath target/debug/upright)'
