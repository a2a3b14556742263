# Two commands matter: `make run` and `make test`. `make help` lists the rest.
CARGO ?= cargo

.DEFAULT_GOAL := help

.PHONY: run
run: ## all services in one process, on the documented ports
	@$(CARGO) build --release --locked --quiet -p waystation-standalone
	@exec target/release/waystation-standalone

.PHONY: demo
demo: ## two daemons, an offline backlog, a broken line, a task that is handed on; ends by itself
	@$(CARGO) run --release --locked --quiet -p waystation-tests --bin waystation-demo

.PHONY: test
test: ## every test; gets itself a Redis
	$(CARGO) test --locked --workspace
	WAYSTATION_TEST_STORE=redis $(CARGO) test --locked -p waystation-tests --test integration

.PHONY: e2e
e2e: ## only the tests of the real processes
	$(CARGO) test --locked -p waystation-tests --test e2e

.PHONY: conformance
conformance: ## what a client gets wrong: CLIENT="node my-adapter.js" (docs/clients.md)
	@$(CARGO) run --locked --quiet -p waystation-tests --bin waystation-conformance -- $(CLIENT)

RUNS ?= 20
.PHONY: kill-tests
kill-tests: ## processes killed under load, RUNS=20 times
	WAYSTATION_RUNS=$(RUNS) $(CARGO) test --locked -p waystation-tests --test e2e killed_processes -- --nocapture

.PHONY: base
base: ## rewrite deploy/kustomize/base from the chart
	@tests/deploy/check.sh --write target/deploy

.PHONY: check
check: ## format, lints, documentation, contract, manifests, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	@if command -v npm >/dev/null; then \
		mkdir -p target/lint && cp tests/lint/* target/lint/ && \
		npm install --prefix target/lint --no-package-lock --no-audit --no-fund --ignore-scripts --silent && \
		node target/lint/asyncapi.mjs docs/asyncapi.yaml && \
		(cd proto && ../target/lint/node_modules/.bin/buf lint); \
	else \
		echo "npm is not installed: docs/asyncapi.yaml and the .proto files were not linted"; \
	fi
	@tests/deploy/check.sh target/deploy
	@if command -v cargo-deny >/dev/null; then \
		cargo deny --config .deny.toml check bans licenses sources; \
	else \
		echo "cargo-deny is not installed: bans, licences and sources were not checked"; \
	fi

.PHONY: bench
bench: ## the figures of docs/performance.md
	$(CARGO) build --release --locked --quiet -p waystation-standalone
	$(CARGO) bench --locked --quiet -p waystation-tests --bench figures

.PHONY: proto
proto: ## rewrite the code that the .proto files generate
	WAYSTATION_REWRITE_PROTO=1 $(CARGO) test --locked --quiet -p waystation-proto --test generated_code_is_fresh

.PHONY: help
help: ## this list
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
