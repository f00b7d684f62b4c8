# On a machine with Python 3.11 or later, git and make, `make demo` and `make test` do everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := cli shimcore tests benchmarks packaging docs

.DEFAULT_GOAL := help
.PHONY: help venv demo test e2e lint types completions completions-check check bench bench-quick fuzz soak dist dist-quick docs image manifests release

help: ## Show what there is to make
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# The project and its development tools, at the versions that CI has tried.
$(VENV)/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fast]' --group dev
	@touch $@

venv: $(VENV)/done ## Install into .venv

demo: venv ## Show the main job on embedded parts
	$(BIN)/image-cri-shim demo

test: venv ## Unit, property and integration tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

e2e: venv ## Real containerd, registries, crictl and systemd (root, Debian)
	$(BIN)/python -m pytest tests/e2e -m e2e --numprocesses 3 --dist loadgroup --max-worker-restart 0

e2e-apiserver: venv ## The cluster's part against a real kube-apiserver, built first (20 minutes)
	tests/e2e/apiserver/build
	$(BIN)/python -m pytest tests/e2e/test_kubernetes.py tests/e2e/test_fleet_apiserver.py -m apiserver

e2e-kubelet: venv ## A real kubelet on a blank node, with kubeadm, both built first (15 minutes)
	tests/e2e/kubelet/build
	$(BIN)/python -m pytest tests/e2e/test_kubelet.py -m kubelet

e2e-runtimes: venv ## CRI-O 1.27 and 1.34, docker 20 and 29 with cri-dockerd, on nodes; built first (15 minutes)
	tests/e2e/stock/build docker docker-29 crio crio-27
	$(BIN)/python -m pytest tests/e2e/stock/test_other_runtimes.py -m runtimes

e2e-containerd: venv ## What is tried on containerd 1.6 and 2.4, on 1.7, 2.0 and 2.1; built first (10 minutes)
	tests/e2e/stock/build containerd-1.7 containerd-2.0 containerd-2.1
	E2E_BETWEEN=1 $(BIN)/python -m pytest tests/e2e -m "e2e and releases" --numprocesses 3 --dist loadgroup

e2e-distributions: venv ## k3s and k0s, whose kubelet is inside; built first (20 minutes)
	tests/e2e/stock/build k3s k0s
	$(BIN)/python -m pytest tests/e2e/stock/test_distributions.py -m distributions

e2e-registries: venv ## distribution 3, Gitea and Pulp as the hub; built first (10 minutes)
	tests/e2e/stock/build distribution gitea pulp
	$(BIN)/python -m pytest tests/e2e/stock/test_other_registries.py -m registries

e2e-systems: venv ## The published packages on Debian 11 and 12 (compiles a Python, 15 minutes)
	$(BIN)/python -m pytest -o faulthandler_timeout=7200 tests/e2e/test_systems.py -m systems

# How long one pull takes under which the nodes are upgraded; 600 for the ten minutes.
E2E_CLUSTER_PULL_S ?= 120

e2e-cluster: venv ## A real cluster of three nodes, built first (half an hour)
	tests/e2e/cluster/build
	E2E_CLUSTER_PULL_S=$(E2E_CLUSTER_PULL_S) \
	$(BIN)/python -m pytest -o faulthandler_timeout=1800 tests/e2e/cluster -m cluster

# How many runs through the shim; which specs, as a regular expression of their names.
RUNS ?= 1
FOCUS ?= .

e2e-critest: venv ## All of CRI's conformance suite, directly and RUNS times through the shim
	E2E_CRITEST_RUNS=$(RUNS) E2E_CRITEST_FOCUS='$(FOCUS)' \
	$(BIN)/python -m pytest -o faulthandler_timeout=7200 tests/e2e/test_critest.py -m critest

lint: venv ## Style
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: venv ## Strict types
	$(BIN)/mypy

bench: $(VENV)/bench ## Speed and memory beside other proxies (needs Go and gcc; a quarter of an hour)
	$(BIN)/python -m benchmarks.run

bench-quick: $(VENV)/bench ## The same in three minutes, with fewer cases
	$(BIN)/python -m benchmarks.run --quick

# For the picture alone.
$(VENV)/bench: $(VENV)/done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--group bench
	@touch $@

mutants: venv ## Break each rule of the relay on purpose; every break has to be caught
	$(BIN)/python -m tests.mutation

completions: venv ## Generate cli/scripts/ from the command line
	$(BIN)/python packaging/completions.py cli/scripts

completions-check: venv ## Fail when cli/scripts/ is not what the command line says
	rm -rf .cache/completions && mkdir -p .cache/completions
	$(BIN)/python packaging/completions.py .cache/completions
	@diff -ru cli/scripts .cache/completions || \
	{ echo "cli/scripts/ is out of date: run 'make completions'" >&2; exit 1; }

docs: venv ## Generate the tables of docs/configuration.md and the picture of the README
	$(BIN)/python docs/tables.py docs/configuration.md
	$(BIN)/python docs/picture.py docs/demo.svg

# What ends up in the packages, or makes them.
PACKAGED := $(shell find cli shimcore docs packaging contrib -type f \
	-not -name '*.py[co]') pyproject.toml constraints.txt LICENSE README.md CHANGELOG.md \
	SECURITY.md CONTRIBUTING.md

dist: dist/image-cri-shim-SHA256SUMS ## Packages with their own Python: .deb, .rpm and .tar.gz in dist/

dist/image-cri-shim-SHA256SUMS: $(PACKAGED)
	packaging/build

dist-quick: .cache/quick/dist/image-cri-shim-SHA256SUMS ## The same for tests: with this machine's Python, for its glibc

.cache/quick/dist/image-cri-shim-SHA256SUMS: $(PACKAGED)
	PYTHON=$(PYTHON) packaging/build --quick

image: dist/image-cri-shim-SHA256SUMS ## The same as an OCI image, in dist/ (needs umoci)
	packaging/image dist/image-cri-shim-*-linux-*.tar.gz dist

manifests: ## Give the chart this version and render it to contrib/kubernetes/fleet (needs helm)
	version=$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' shimcore/__init__.py) && \
	sed -i -e "s/^version: .*/version: $$version/" -e "s/^appVersion: .*/appVersion: \"$$version\"/" \
	contrib/helm/image-cri-shim/Chart.yaml
	contrib/kubernetes/fleet/render

release: ## Build, check and list all that is published of a version (see CONTRIBUTING.md)
	PYTHON=$(PYTHON) packaging/release

# For fuzz (600) and soak (600; an hour is SECONDS=3600).
SECONDS ?= 600
# The fuzzer is needed for nothing else, and is not made for every platform.
ATHERIS := 3.0.0

fuzz: venv $(VENV)/fuzz ## Fuzz everything that reads what others wrote, for SECONDS
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

$(VENV)/fuzz: $(VENV)/done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==$(ATHERIS)
	@touch $@

# What the soak's shim stands before: `stand-in` keeps a journal of calls; `containerd` (root).
RUNTIME ?= stand-in

soak: venv ## Faults at random between real processes, for SECONDS
	$(BIN)/python -m tests.soak --seconds $(SECONDS) --runtime $(RUNTIME)

check: lint types protos-check completions-check test ## Everything that needs no root

# Generated code works with protobuf runtimes no older than its compiler: this one's is 5.27,
# older than the oldest runtime that pyproject.toml allows.
PROTOC_VERSION := 1.67.1
PROTOC_VENV := .cache/protoc-$(PROTOC_VERSION)
PROTOC := $(PROTOC_VENV)/bin/python -m grpc_tools.protoc
PROTOS := cri containerd admin

# Generates into the folder $(1). The compiler is told that protos/ is shimcore/pb/, which
# makes that the modules' place. Its stubs name Mapping without its types.
define generate
$(PROTOC) --proto_path=shimcore/pb=protos --python_out=$(1) --pyi_out=$(1) \
	$(PROTOS:%=shimcore/pb/%.proto)
sed -i '1i # mypy: disable-error-code="type-arg"' $(PROTOS:%=$(1)/shimcore/pb/%_pb2.pyi)
endef

.PHONY: protos protos-check

protos: $(PROTOC_VENV)/done ## Generate shimcore/pb from protos/
	$(call generate,.)

protos-check: $(PROTOC_VENV)/done ## Fail when shimcore/pb is not what protos/ says
	rm -rf .cache/pb && mkdir -p .cache/pb
	$(call generate,.cache/pb)
	@diff -ru --exclude=__init__.py --exclude=__pycache__ shimcore/pb .cache/pb/shimcore/pb || \
	{ echo "shimcore/pb is out of date: run 'make protos'" >&2; exit 1; }

$(PROTOC_VENV)/done:
	python3 -m venv $(PROTOC_VENV)
	$(PROTOC_VENV)/bin/python -m pip install --quiet --disable-pip-version-check grpcio-tools==$(PROTOC_VERSION)
	touch $@
