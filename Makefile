# Each target first installs the packages that it needs. Without root it lists them.

.PHONY: help setup build train deb demo test fuzz soak deny bench bench-quick conformance

# Builds for production are guided by a profile of nodegate under load (tests/bench/profile/README.md).
GUIDED = RUSTFLAGS="$$RUSTFLAGS $$(tests/bench/profile/flags)"

# Where `make deb` writes the packages. If PACK_BINARY is set, it packs that program and compiles nothing.
DEB ?= target/deb

help:
	@echo "make setup   installs the packages that the tests need; without root it lists them"
	@echo "make build   nodegate for production: target/release/nodegate"
	@echo "make train   records a profile of nodegate under load, which guides make build and make deb"
	@echo "make deb     Debian packages in target/deb: nodegate, and one for each product"
	@echo "make demo    the three profiles on loopback, with temporary keys, and commands to try"
	@echo "make test    formatting, lints and all tests, also those with real clients"
	@echo "             RELEASE=trixie: black-box and package tests in a root of that Debian"
	@echo "             (build, bench and bench-quick as well)"
	@echo "make fuzz    fuzzing: each target of tests/fuzz for SECONDS=30"
	@echo "make soak    mixed load for half an hour, every answer verified: SECONDS=1800"
	@echo "make deny    licences, sources and versions of the crates, by cargo-deny"
	@echo "make bench   beside nginx, HAProxy and Caddy: the tables of docs/performance.md, or those of Debian 12 (an hour, a quiet machine)"
	@echo "make bench-quick   the same in four minutes, printed only; ROWS='tunnel start' picks rows"
	@echo "make conformance   suites that others wrote, beside nginx, HAProxy and Caddy: the table of docs/conformance.md"
	@echo "             SUITES='httpwg autobahn' picks suites"

setup:
	tests/setup.sh test

ifdef RELEASE
build:
	tests/release/run $(RELEASE) build
else
build:
	tests/setup.sh demo
	-tests/bench/profile/check
	$(GUIDED) cargo build --release --locked --bin nodegate
endif

train:
	tests/setup.sh train
	tests/bench/profile/train

# Builds a copy, because dpkg-buildpackage leaves files in the source and beside it.
deb:
	tests/setup.sh deb
	-@[ -n "$(PACK_BINARY)" ] || tests/bench/profile/check
	rm -rf $(DEB)
	mkdir -p $(DEB)/source
	tar --exclude=./target --exclude=./.git -cf - . | tar -C $(DEB)/source -xf -
	cd $(DEB)/source && CARGO_TARGET_DIR=$(CURDIR)/target/deb-build dpkg-buildpackage -b -us -uc
	rm -rf $(DEB)/source
	@ls $(DEB)/*.deb

demo:
	tests/setup.sh demo
	tests/demo.sh ports
	cargo build --workspace --locked
	tests/demo.sh

ifdef RELEASE
test:
	tests/release/run $(RELEASE) test $(TESTS)
else
test: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked
	tests/packages/run
endif

fuzz: SECONDS ?= 30
fuzz:
	tests/setup.sh fuzz
	FUZZ_SECONDS=$(SECONDS) tests/fuzz/run $(TARGETS)

soak: SECONDS ?= 1800
soak: setup
	SOAK_SECONDS=$(SECONDS) $(GUIDED) cargo test --release --locked --test soak -- --nocapture

deny:
	tests/setup.sh deny
	cargo deny check licenses bans sources

# The arguments of the bench.
bench: MEASURED = --write docs $(ROWS)
bench-quick: MEASURED = --repeats 1 --seconds 0.4 --connections 1000 --kept target/bench-quick $(ROWS)
ifdef RELEASE
bench bench-quick:
	tests/release/run $(RELEASE) bench $(MEASURED)
else
bench bench-quick:
	tests/setup.sh bench
	$(GUIDED) cargo build --release --locked --bin nodegate
	cargo build --release --locked --package nodegate-bench
	target/release/bench $(MEASURED)
endif

conformance:
	tests/setup.sh conformance
	cargo build --workspace --locked
	target/conformance/venv/bin/python -B tests/conformance/run.py --write docs/conformance.md $(SUITES)
