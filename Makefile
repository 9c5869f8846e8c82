# Builds, checks and runs the laboratory. `make` alone lists the targets.
#
# Every step leaves its product or a stamp, so that a second `make build` finds nothing to do.
# Shell logic lives in tools/; no recipe here is longer than five lines.

MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup prerequisites build engine payload lint check test run abi-check bench abi-lock sign golden format clean ci

# The seed of every property test: fixed, so that two runs of the suite are the same run.
export FC_SEED ?= 20260429

BIN := node_modules/.bin
PAYLOAD ?= caretaker-payload/build/caretaker.elf
SIGNED ?= $(PAYLOAD:.elf=.signed.elf)
# Directories too: their time changes when a file is removed.
SOURCES := $(shell find abi loader emulator -type d -o -name '*.ts')
ENGINE := build/Release/caretaker_engine.node
OLDER_ENGINE := .unicorn/engine-2.0/build/Release/caretaker_engine.node
ENGINE_SOURCES := binding.gyp $(shell find emulator/cpu/native -type f)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: engine ## check node and npm, install what is missing, build the engine binding

build: setup payload dist/.built ## set up, then build the payload and the emulator

prerequisites:
	@tools/check-node.sh

.stamps/system: tools/system-packages.sh | prerequisites
	@tools/system-packages.sh
	@mkdir -p .stamps && touch $@

# Scripts are off because the only one is the engine binding, which has its own step.
node_modules/.built: package.json package-lock.json | prerequisites .stamps/system
	@echo "  NPM      node_modules"
	@npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

engine: $(ENGINE)

$(ENGINE): $(ENGINE_SOURCES) | node_modules/.built
	@echo "  ENGINE   $@"
	@npm run --silent build:engine
	@touch $@

# The distribution's libunicorn, which must give the same results; tests that need it say so when it is not there.
$(OLDER_ENGINE): $(ENGINE)
	@echo "  ENGINE   $@"
	@npm run --silent build:engine-2.0 || echo "libunicorn 2.0 is not installed: its tests are skipped"

payload: | .stamps/system ## build caretaker-payload/build/caretaker.elf
	@$(MAKE) -s -C caretaker-payload -f build.mk

dist/.built: $(SOURCES) tsconfig.json tools/bundle.mjs node_modules/.built
	@echo "  TSC      dist"
	@$(BIN)/tsc -p tsconfig.json
	@node tools/bundle.mjs
	@touch $@

lint: node_modules/.built
	@echo "  LINT     prettier, eslint, tsc"
	@$(BIN)/prettier --check --log-level=warn .
	@$(BIN)/eslint .
	@$(BIN)/tsc -p tsconfig.lint.json

check: lint ## formatting, lint, types, and the rules of the tree (arrows, headers, no binaries)
	@$(BIN)/vitest run --reporter=dot tests/architecture

test: build $(OLDER_ENGINE) lint ## all that CI runs: build, checks, every test
	@echo "  TEST     FC_SEED=$(FC_SEED)"
	@$(BIN)/vitest run

run: build ## a whole live update, end to end, with the reference payload (ARGS adds options)
	@bin/caretaker-emu run $(ARGS)

abi-check: build ## the payload's layouts against the contract, and the contract against its lock
	@bin/caretaker-emu abi check $(ARGS)
	@$(BIN)/vitest run --reporter=dot tests/abi

bench: build ## the figures of the README, measured here
	@bin/caretaker-emu bench $(ARGS)

abi-lock: build ## write abi/layout.lock.json; refuses a layout change without a new version
	@node tools/abi-lock.mjs

sign: payload ## sign the payload: make sign KEY=key.pem CERT=cert.pem [PAYLOAD=a.elf] [SIGNED=a.signed.elf]
	@tools/sign-payload.sh "$(KEY)" "$(CERT)" "$(PAYLOAD)" "$(SIGNED)"

golden: build ## accept the transcripts as they are now; review the diff
	@UPDATE_GOLDEN=1 $(BIN)/vitest run tests/golden tests/readme/readme.spec.ts

format: node_modules/.built ## rewrite the sources in the house style
	@$(BIN)/prettier --write --log-level=warn .

clean: ## remove what was built; node_modules stays
	rm -rf dist build coverage .stamps caretaker-payload/build

ci: test ## what .ci/run and the workflow run
