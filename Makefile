# Dozo. `make` lists the targets. The first two need nothing but Debian and Go.
.DEFAULT_GOAL := help
GO ?= go
# Of the lab's nodes, for the targets lab, e2e and e2e-smoke: host, or guest for one of their own each.
KERNEL := $(or $(KERNEL),$(DOZO_LAB_KERNEL),host)
export DOZO_LAB_KERNEL := $(KERNEL)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: demo
demo: node-packages build ## install what is needed, build, and see Dozo work (as root); FLAGS="--fs xfs"
	hack/as-root.sh bin/dozo demo $(FLAGS)

.PHONY: test
test: packages ## install what is needed, and run every check and test (as root, about 15 minutes)
	hack/test.sh

.PHONY: test-long
test-long: packages ## the same with the tests that take minutes each: LVM's law and crashes in guests (as root, about an hour)
	DOZO_TEST_LONG=1 hack/test.sh

.PHONY: build
build: ## build bin/dozo
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, generated files
	hack/lint.sh

.PHONY: generate
generate: ## generate Go from the protobuf definitions (needs protobuf-compiler)
	hack/generate.sh

.PHONY: fuzz
fuzz: ## feed every parser for FUZZTIME (default 30s) each
	hack/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: packages ## measure Dozo, into coverage/bench.json and a table (as root, about 6 minutes; on an idle machine)
	hack/bench.sh

.PHONY: packages
packages: ## install the Debian packages that tests need
	@hack/install-packages.sh hack/node-packages.txt hack/test-packages.txt test/lab/host-packages.txt

.PHONY: node-packages
node-packages:
	@hack/install-packages.sh hack/node-packages.txt

.PHONY: e2e
e2e: lab-packages ## test Dozo in a real Kubernetes: our scenarios and the upstream suite (as root, about 20 minutes); KERNEL=guest
	hack/e2e.sh

.PHONY: e2e-smoke
e2e-smoke: lab-packages ## the few of those scenarios that every change has to pass (as root, about 2 minutes); KERNEL=guest
	hack/e2e.sh --smoke

.PHONY: lab
lab: lab-packages ## start a real Kubernetes on this machine and install Dozo on it (as root); KERNEL=guest
	$(GO) run ./test/lab/cmd/lab up --install

.PHONY: lab-install
lab-install: ## bring Dozo in that Kubernetes up to date with this source
	$(GO) run ./test/lab/cmd/lab install

.PHONY: lab-chart
lab-chart: ## check the chart: golden files, lint, RBAC, wrong values
	$(GO) -C test/lab/helm vet ./...
	$(GO) -C test/lab/helm test ./...

.PHONY: lab-down
lab-down: ## end that Kubernetes and all that is in it
	$(GO) run ./test/lab/cmd/lab down

.PHONY: lab-packages
lab-packages:
	@hack/install-packages.sh hack/node-packages.txt test/lab/cluster/host-packages.txt $(if $(filter guest,$(KERNEL)),test/lab/host-packages.txt)
