# make demo-virtual   the main job on a simulated host, under a minute after the build
# make test           everything that guards the project
# make install        the agent and its files below DESTDIR

CARGO ?= cargo
AGENT_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
AGENT = target/$(AGENT_TARGET)/agent/upright
DESTDIR ?=
PREFIX ?= /usr

.PHONY: requirements build agent install lint unit demo-virtual test deny

requirements:
	tests/install-requirements

build: requirements
	$(CARGO) build --workspace --bins

# Static, so that it runs on any host whatever its libraries.
agent: requirements
	RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --profile agent --target $(AGENT_TARGET) -p upright-updater

install:
	install -D -m 755 $(AGENT) $(DESTDIR)$(PREFIX)/bin/upright
	cp -r dist/systemd dist/tmpfiles.d dist/dracut -t $(DESTDIR)$(PREFIX)/lib

lint: requirements
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# python-tuf, which Debian 12 does not have, is an oracle of the tests.
target/interop/ready: tests/interop/requirements.txt
	python3 -m venv --clear target/interop
	target/interop/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

unit: build target/interop/ready
	UPRIGHT_PYTHON=$(CURDIR)/target/interop/bin/python $(CARGO) test --workspace

demo-virtual: build
	$(CARGO) test --workspace --test story

test: lint unit

deny:
	$(CARGO) deny check licenses bans sources
