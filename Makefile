# Two commands for newcomers: make demo, make test. CONTRIBUTING.md explains the rest.
.PHONY: help setup demo test lint proto-release clean-all

# Passed on to `retort demo` or to the test runner: make demo ARGS="--seed 2"
ARGS ?=

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Fetches and checks libtorch, ONNX Runtime and Fashion-MNIST (once)
	scripts/setup

demo: setup ## Trains a teacher, distils a student from it, serves the student
	cargo build --release --locked
	target/release/retort demo $(ARGS)

# The tests start the services, so the binaries are built first; both share the release artifacts.
test: ## Runs all tests, those against foreign clients included
	scripts/setup --tests
	cargo build --release --locked --workspace
	cargo test --release --locked --workspace $(ARGS)

lint: ## Checks format, clippy and the gRPC contracts
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked --workspace -- -D warnings -D clippy::disallowed_methods \
		-D clippy::print_stdout -D clippy::print_stderr
	scripts/lint-protos

proto-release: ## Makes the present gRPC contracts the released ones
	scripts/lint-protos --release

clean-all: ## Gives the disk back: what was fetched, built and trained
	rm -rf .deps target runs
