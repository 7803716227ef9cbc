# make demo         see what it finds, on a throwaway container (root; no Docker, no registry)
# make docker-demo  the same on a real dockerd with overlay2 and with Btrfs (root)
# make test         everything CI checks; installs what is missing from Debian's packages
# make torture     random operations against brute force: STEPS=1000000 SEED=7
# make conformance the scenarios on every engine, docker diff and podman diff: docs/reference/conformance.md
# make runtimes     containers of every runtime, driver and state: docs/reference/runtimes.md (root)
# make bench-peers  Plimsoll beside docker diff, AIDE, sha256sum and others, and the floor (root): QUICK=1
# make bench-page   its page, plot and the README's section, from the last results
# make check        the quick part of it, without root
# make bench        the inner loops, by Criterion: the walk, the decoder, the comparison of two files
# make static       the program as one file that needs nothing, for x86_64 and aarch64
# make layout       which functions a check executes, for the linker: scripts/layout.ld (root)
# make emulated     the tests of the aarch64 build on an arm64 Linux that qemu emulates (root)
# make fuzz         every decoder against hostile bytes: FUZZ_SECONDS=60 for each (nightly)

CARGO ?= cargo
DENY := target/tools/bin/cargo-deny
DENY_VERSION := 0.20.2
PROGRAM := target/release/plimsoll

FUZZ := target/tools/bin/cargo-fuzz
FUZZ_VERSION := 0.13.2

STEPS ?= 100000
SEED ?= 1

.PHONY: layout bench benches bench-peers bench-peers-short bench-page static emulated emulated-short fuzz fuzz-minimize torture conformance runtimes build demo docker-demo test packages check format lint tidy deny unit e2e schema man

build:
	$(CARGO) build --release --locked --package plimsoll

demo: build
	@if [ "$$(id -u)" -ne 0 ]; then \
	    echo "The demo mounts file systems of its own, which only root may: sudo $(PROGRAM) demo"; \
	    exit 2; \
	fi
	$(PROGRAM) demo

docker-demo: build
	sh scripts/docker-demo.sh $(PROGRAM)

test: packages check benches deny e2e static emulated-short bench-peers-short

packages:
	sh scripts/packages.sh

check: format lint tidy unit

format:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

tidy:
	$(CARGO) xtask tidy
	$(CARGO) xtask schema --check
	$(CARGO) xtask conformance --check
	$(CARGO) xtask runtimes --check
	$(CARGO) run --quiet --package plimsoll-bench -- page --check

unit:
	$(CARGO) test --workspace --exclude plimsoll-e2e --locked

# Each inner loop, measured. Put a baseline beside it with: cargo bench -- --save-baseline NAME
bench:
	$(CARGO) bench --package plimsoll-host --locked

# Each benchmark once, so that none rots; nothing is timed.
benches:
	$(CARGO) test --package plimsoll-host --locked --benches

# The binaries of this package run one after the other: they make loop devices and start daemons.
e2e:
	@if [ "$$(id -u)" -ne 0 ]; then echo "not root: the tests on real file systems are skipped"; \
	else sh scripts/next.sh; fi
	$(CARGO) build --locked --package plimsoll
	$(CARGO) test --package plimsoll-e2e --locked

# The page of runtimes, made anew from what the tests find.
runtimes: packages
	$(CARGO) build --locked --package plimsoll
	$(CARGO) xtask runtimes

static: packages
	sh scripts/static.sh

# Which functions lie side by side in the static programs, found anew.
layout: packages
	sh scripts/layout.sh

# What is left out of it, and why, stands in the script; the short form is for CI.
emulated: static
	sh scripts/emulate.sh all

emulated-short: static
	sh scripts/emulate.sh short

# Random operations against brute force, as many and from the seed you like.
torture:
	PLIMSOLL_TORTURE_STEPS=$(STEPS) PLIMSOLL_TORTURE_SEED=$(SEED) \
	    $(CARGO) test --release --package plimsoll-e2e --locked --test torture --test torture_layers -- --nocapture

# The page of them, made anew from what they find.
conformance: packages
	$(CARGO) build --locked --package plimsoll
	$(CARGO) xtask conformance

# QUICK=1 asks whether all of it works, and nothing about time. ARGS has more: "--full --cold".
bench-peers:
	sh bench/run.sh $(if $(QUICK),--quick) $(ARGS)

bench-page:
	$(CARGO) run --quiet --package plimsoll-bench -- page

# Whether every tool is run and understood, and Plimsoll's answer is the truth: nothing about time.
bench-peers-short:
	sh bench/run.sh --quick --output target/bench/quick.json

# Any bytes to every decoder. What `unit` replays of it is in fuzz/corpus.
fuzz: $(FUZZ)
	sh scripts/fuzz.sh run

# Keeps the least of what was found, and of the corpus, that reaches as much.
fuzz-minimize: $(FUZZ)
	sh scripts/fuzz.sh minimize

deny: $(DENY)
	$(DENY) check --hide-inclusion-graph bans licenses sources
	@if timeout 20 git ls-remote --heads https://github.com/RustSec/advisory-db main >/dev/null 2>&1; then \
	    echo $(DENY) check advisories; \
	    $(DENY) check advisories; \
	else \
	    echo "advisories: the database on github.com cannot be reached from here, not checked"; \
	fi

$(DENY):
	$(CARGO) install --locked --root target/tools --target-dir target/tools/build cargo-deny@$(DENY_VERSION)
	rm -rf target/tools/build

$(FUZZ):
	$(CARGO) install --locked --root target/tools --target-dir target/tools/build cargo-fuzz@$(FUZZ_VERSION)
	rm -rf target/tools/build

schema:
	$(CARGO) xtask schema

man:
	$(CARGO) xtask man
