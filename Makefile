# What there is to do here; each target installs what it needs first (as root) or names it.

.PHONY: help setup build demo test

help:
	@echo "make build   nodegate for use: target/release/nodegate"
	@echo "make demo    the three profiles on loopback, with throw-away keys, and what to try"
	@echo "make test    formatting, lints, and every test, those with real clients included"

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
