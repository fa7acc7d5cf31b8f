# macronode: make run starts a development node; make test passes every test.
SHELL := /bin/bash
SHA   := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
STAMP := $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
INFO  := github.com/rustyonions/macronode/internal/buildinfo
FLAGS := -trimpath -buildvcs=false -ldflags "-s -w -X $(INFO).gitSHA=$(SHA) -X $(INFO).buildTS=$(STAMP)"
TAGS  ?=

export CGO_ENABLED ?= 0

.PHONY: run build test lint unit race e2e matrix reproducible quickstart acceptance torture netns bench mutants microbench golden setup clean

build: ## both binaries, into bin/
	@mkdir -p bin
	go build $(FLAGS) -tags "$(TAGS)" -o bin/ ./cmd/macronode ./cmd/ronctl

run: build ## a development node on 127.0.0.1:8080, data in ./macronode-data
	./bin/macronode run

test: setup lint race e2e matrix reproducible quickstart ## everything that must pass; installs what it lacks

setup: ## promtool, b3sum, jq, curl and others from Debian's packages, and h2spec into bin/
	./scripts/setup.sh

lint:
	./scripts/lint.sh

# Failing each call of the object store in turn takes a quarter of an hour under the
# race detector: there it is thinned out, and done in full without. Images of a process's
# memory (test/secrets) are taken without it.
race: ## all packages but the end-to-end suite, under the race detector
	CGO_ENABLED=1 go test -race -timeout 20m $$(go list ./... | grep -v -e /test$$ -e /store/fileobj$$ -e /mailbox/broker$$)
	CGO_ENABLED=1 go test -race -short -timeout 20m ./internal/store/fileobj ./internal/svc/mailbox/broker
	go test -timeout 20m ./internal/store/fileobj ./internal/svc/mailbox/broker ./test/secrets

unit: ## the same without the race detector
	go test $$(go list ./... | grep -v /test$$)

e2e: build ## the built binaries, driven as a user drives them
	MACRONODE_BIN=$(CURDIR)/bin go test -count=1 -timeout 20m ./test

matrix: ## every combination of the features builds and says so
	./scripts/matrix.sh

reproducible: ## two builds, the same bytes
	./scripts/reproducible.sh

quickstart: build ## the runbook's quickstart and verification list
	./scripts/quickstart.sh

acceptance: build ## writes docs/acceptance.md from what the product does
	./scripts/acceptance.sh

torture: build ## full kill and crash counts; writes docs/torture.md; hours
	./scripts/torture.sh

netns: build ## three nodes on a network with 20 ms delay, cut and healed; writes docs/overlay-network.md; needs root
	MACRONODE_NETNS=$(CURDIR)/docs/overlay-network.md MACRONODE_BIN=$(CURDIR)/bin go test -tags netns -count=1 -timeout 20m -v -run TestNetwork ./test

bench: build ## the node beside its peers; writes docs/performance.md; more than an hour
	./scripts/bench.sh

mutants: ## breaks the code in known places; each time a named test must fail
	./scripts/mutants.sh

microbench: ## benchmarks with allocations
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v /test$$)

golden: ## rewrites every golden file from the code
	./scripts/golden.sh

clean:
	rm -rf bin macronode-data
