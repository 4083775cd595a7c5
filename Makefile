# Two commands for newcomers: make demo, make test. CONTRIBUTING.md explains the rest.
.PHONY: help setup demo test lint proto-release clean-all

# Arguments for `retort demo` or the test runner: make demo ARGS="--seed 2"
ARGS ?=
# make setup DEVICE=cuda installs libtorch for NVIDIA GPUs. Without it, an installed libtorch stays as it is.
DEVICE ?=

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Downloads and verifies libtorch, ONNX Runtime and Fashion-MNIST (once)
	scripts/setup $(if $(DEVICE),--device=$(DEVICE))

demo: setup ## Trains a teacher, distils a student from it, serves the student
	cargo build --release --locked
	target/release/retort demo $(ARGS)

# The tests start the services, so build the binaries first. --all-targets gives dependencies the features that tests need
# (tokio's test-util), so that cargo test compiles none of them again.
test: ## Runs all tests, including those with third-party clients
	scripts/setup --tests
	cargo build --release --locked --workspace --all-targets
	cargo test --release --locked --workspace $(ARGS)

lint: ## Checks formatting, clippy and the gRPC contracts
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo clippy --release --locked --workspace --exclude test-support -- -D warnings -D clippy::disallowed_methods \
		-D clippy::print_stdout -D clippy::print_stderr
	scripts/lint-protos

proto-release: ## Records the current gRPC contracts as the released ones
	scripts/lint-protos --release

clean-all: ## Removes all downloads, builds and runs
	rm -rf .deps target runs
