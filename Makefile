# Portcullis: everything a contributor types. `make help` lists it.
#
# The build folder is shared between clones in the user's cache, so a fresh clone builds only what differs.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/portcullis/target
PREFIX ?= $(CURDIR)/run
TIME ?= 600

.PHONY: help run upstream build test lint bench bench-scale soak fuzz api-fuzz docs tour rust compiler

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

rust:
	@command -v cargo >/dev/null || { echo "Rust is missing: install it with your package manager or rustup, then try again" >&2; exit 1; }

# The embedded database, the allocator and the cryptography are C inside Rust packages: they need a C compiler, nothing else.
compiler: rust
	@scripts/need cc=gcc ld=binutils
	@[ -e /usr/include/stdio.h ] || scripts/need no-such-command-libc=libc6-dev

build: compiler ## build the release program
	@echo "make: building the release program (minutes the first time) into $(CARGO_TARGET_DIR)/release/portcullis"
	cargo build --release --locked -p portcullis

run: build ## build and run the gateway in the foreground, data in ./run (PREFIX=folder)
	@mkdir -p "$(PREFIX)"
	@echo "make: starting; proxy http://127.0.0.1:8000 and https://127.0.0.1:8443, Admin API http://127.0.0.1:8001, Status API http://127.0.0.1:8007"
	@echo "make: data and logs in $(PREFIX); Ctrl-C stops it"
	exec env PORTCULLIS_NGINX_DAEMON=off "$(CARGO_TARGET_DIR)/release/portcullis" start -p "$(PREFIX)"

upstream: compiler ## run a small upstream on port 9000 that echoes what it is sent (for the tour)
	@echo "make: http://127.0.0.1:9000/echo answers with the request it was sent; Ctrl-C stops it"
	cargo run --quiet --locked -p portcullis-bench-upstream -- 127.0.0.1:9000

test: compiler ## run every test
	@scripts/need curl=curl setpriv=util-linux openssl=openssl
	@compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || command -v initdb >/dev/null || scripts/need initdb=postgresql
	@scripts/need redis-server=redis-server
	@[ -x /usr/sbin/slapd ] || command -v slapd >/dev/null || scripts/need slapd=slapd
	@[ -x /usr/sbin/rsyslogd ] || command -v rsyslogd >/dev/null || scripts/need rsyslogd=rsyslog
	@echo "make: running every test of the workspace; the black-box suites start the real program on free ports"
	cargo build --locked --workspace --bins
	cargo test --locked --workspace --no-fail-fast

lint: compiler ## formatting, clippy, and cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; \
	 else echo "make: cargo-deny is not installed, deny.toml was not checked"; fi

bench: build ## measure against nginx and HAProxy (ARGS="--rows bare,post --rounds 3 --secs 5")
	@scripts/need python3=python3 nginx=nginx-light haproxy=haproxy wrk=wrk h2load=nghttp2-client openssl=openssl taskset=util-linux strace=strace valgrind=valgrind
	cargo build --release --locked -p portcullis-bench-upstream
	python3 bench/run.py --binaries "$(CARGO_TARGET_DIR)/release" $(ARGS)

bench-scale: build ## measure large configurations: 100,000 consumers or routes at once, a million in the database
	@scripts/need python3=python3
	python3 bench/scale.py --binaries "$(CARGO_TARGET_DIR)/release" $(ARGS)

soak: build ## two minutes of load with 200 configuration changes: no request may fail
	@scripts/need python3=python3 wrk=wrk openssl=openssl
	cargo build --release --locked -p portcullis-bench-upstream
	python3 bench/run.py --binaries "$(CARGO_TARGET_DIR)/release" --soak $(ARGS)

fuzz: compiler ## run every fuzz target TIME seconds (600)
	@cargo +nightly --version >/dev/null 2>&1 || { echo "fuzzing needs the nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
	@scripts/need c++=g++
	@command -v cargo-fuzz >/dev/null || { echo "make: installing cargo-fuzz"; cargo install cargo-fuzz --locked; }
	scripts/fuzz "$(TIME)" $(TARGETS)

api-fuzz: compiler ## send the Admin API of the debug program what its /openapi.json allows, and doesn't, TIME seconds (600)
	@scripts/need python3=python3
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "make: python3 has no venv: install it (python3-venv on Debian), then try again" >&2; exit 1; }
	cargo build --locked -p portcullis
	scripts/schemathesis "$(CARGO_TARGET_DIR)/debug/portcullis" "$(TIME)" $(ARGS)

docs: compiler ## build the API docs and write docs/reference anew
	cargo doc --locked --workspace --no-deps
	PORTCULLIS_BLESS=1 cargo test --locked --quiet -p portcullis reference
	@echo "make: API docs in $(CARGO_TARGET_DIR)/doc, reference in docs/reference"

tour: ## run the README's tour against a running gateway and upstream (ARGS=--write puts the answers into the README)
	@scripts/need curl=curl
	scripts/tour.sh $(ARGS)
