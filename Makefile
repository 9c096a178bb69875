# What there is to do here; each target installs what it needs first (as root) or names it.

.PHONY: help setup build demo test fuzz bench bench-quick

help:
	@echo "make build   nodegate for use: target/release/nodegate"
	@echo "make demo    the three profiles on loopback, with throw-away keys, and what to try"
	@echo "make test    formatting, lints, and every test, those with real clients included"
	@echo "make fuzz    looks for input that harms: each target of tests/fuzz for SECONDS=30"
	@echo "make bench   beside nginx and HAProxy: the tables of docs/performance.md (half an hour, a quiet machine)"
	@echo "make bench-quick   the same in two minutes, printed only; ROWS='tunnel start' picks rows"

setup:
	tests/setup.sh test

build:
	tests/setup.sh demo
	cargo build --release --locked

demo:
	tests/setup.sh demo
	cargo build --workspace --locked
	tests/demo.sh

test: setup
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

fuzz: SECONDS ?= 30
fuzz:
	tests/setup.sh fuzz
	FUZZ_SECONDS=$(SECONDS) tests/fuzz/run $(TARGETS)

bench:
	tests/setup.sh bench
	cargo build --release --locked --workspace
	target/release/bench --write docs/performance.md $(ROWS)

bench-quick:
	tests/setup.sh bench
	cargo build --release --locked --workspace
	target/release/bench --repeats 1 --seconds 1 --connections 1000 --kept target/bench-quick $(ROWS)
