# The words of this project. `make demo` shows it, `make test` proves it.
# MINUTES=5 or STAY=1 make the demo longer, PACE=real runs it in real time, TESTBED= chooses another testbed.

SWIFT ?= swift
RELEASE = -c release
TESTBED ?= firmware-sim/testbeds/madrid.yaml
DEMO_OPTIONS = $(if $(MINUTES),--minutes $(MINUTES)) $(if $(STAY),--stay) $(if $(PACE),--pace $(PACE))
# What the sanitizers run: no servers, and of QuantumLink the state machines only (scripts/run-sanitizers).
SANITIZED = address=QKDModel,KeyMaterial,QuantumOptics,PostProcessing,Transport,Instruments,QuantumLink \
	thread=QKDModel,KeyMaterial,QuantumOptics,PostProcessing

.PHONY: deps deps-build build demo test sanitize bench check docs deb install clean

build: deps-build ## programs, in .build/release
	$(SWIFT) build $(RELEASE)

demo: deps-build ## emulated Madrid distils keys in front of you
	$(SWIFT) build $(RELEASE)
	.build/release/qkdctl lab run $(TESTBED) --json madrid-result.json $(DEMO_OPTIONS)

test: deps ## everything that can fail: units, real programs, sanitizers
	$(SWIFT) build $(RELEASE) --build-tests
	scripts/run-tests $(SANITIZED)

sanitize: ## address and thread sanitizers over the state machines
	scripts/run-sanitizers $(SANITIZED)

bench: deps ## a table, and bench-result.json
	$(SWIFT) build $(RELEASE)
	.build/release/qkdctl bench --json bench-result.json
	scripts/bench-devices --guest --add bench-result.json

check: ## layers, format, words; warnings are errors in every build
	scripts/check-layers
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests firmware-sim
	scripts/check-words

deb: build ## a Debian package, in .build/deb
	scripts/make-deb

install: build ## programs, units, rules, man pages and completions, below DESTDIR
	scripts/install-files $(or $(DESTDIR),/)

docs: build ## every command's help, in docs/commands.md
	scripts/make-docs

deps: ## Debian and Python packages
	scripts/deps all

deps-build:
	scripts/deps build

clean:
	rm -rf .build .build-asan .build-tsan lab madrid-result.json bench-result.json
