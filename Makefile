# Everything one does with this repository. `make help` lists it.
# The first target that needs it makes .venv with the versions of constraints.txt; later ones reuse it.

PYTHON  ?= python3
SPEC    ?= configs/resnet50.yaml
JOBS    ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SCHEMA  := .convstat/spec.schema.json
PIP     := $(BIN)/python -m pip --disable-pip-version-check
PYTEST  := $(BIN)/python -m pytest
ifndef SEED
SEED    := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif

.DEFAULT_GOAL := help
.PHONY: help run test lint bench verify device compat golden compiled zoo-names clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(STAMP) $(SCHEMA) compiled ## the main job: the reconciled table of a real network (SPEC=configs/resnet50.yaml)
	@$(BIN)/convstat analyze $(SPEC) --depth 1

# What large tensors took is given back as soon as they are gone: a process that keeps it takes longer to fork.
test verify: export MALLOC_MMAP_THRESHOLD_ := 1048576

test: lint ## lint, types and every test
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "not verify"

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP) compiled ## speed and memory, as ratios within one run
	@$(PYTEST) tests/benchmarks

# `make test` draws the same examples each time; here they are others, unless SEED says which.
verify: $(STAMP) ## the long checks: examples on real tensors, whole families of networks, other random cases (SEED=...)
	@$(PYTEST) -n $(JOBS) --dist worksteal -m "verify or hypothesis" \
		--hypothesis-profile random --hypothesis-seed $(SEED)

device: ## the checks that need an NVIDIA GPU: counts, counters beside their predictions, peak memory; six minutes
	@tests/device/run.sh

compat: $(STAMP) ## the core of the tests beside other versions: TORCH="2.4.0 2.15.0" PY="3.12"; thop (25 GB, .compat/)
	@$(BIN)/python tests/compat.py --jobs $(JOBS) $(if $(TORCH),--torch "$(TORCH)") $(if $(PY),--python "$(PY)")

golden: $(STAMP) ## rewrite the golden outputs; review them with git diff
	@CONVSTAT_GOLDEN=1 $(PYTEST) -k golden

zoo-names: $(STAMP) ## rewrite the list of names in model zoos, from the zoos that are installed
	@$(BIN)/python -m convstat.targets.zoo_names

# Where PYTHONDONTWRITEBYTECODE is set, every start would compile the package anew.
compiled: $(STAMP)
	@$(BIN)/python -m compileall -q convstat

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .convstat .compat
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the first line of each file in configs/ points editors to.
$(SCHEMA): $(STAMP) $(wildcard convstat/layers/*.py convstat/spec/*.py)
	@mkdir -p $(@D)
	@$(BIN)/convstat schema spec > $@.new
	@mv $@.new $@

# The stamp is written last, so an interrupted installation is taken up again.
# torch comes first and pinned: no later step then looks for another build of it.
# torchvision is there for its model definitions alone, whichever torch it was built for; hence no dependencies.
# So are calflops and DeepSpeed for the part of them that counts: they ask for a gigabyte that it does not use.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("convstat needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; say which: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "installing into $(VENV), once; this takes a few minutes" >&2
	@$(PYTHON) -m venv $(VENV)
	$(call install,1/5: pip,--upgrade pip setuptools)
	$(call install,2/5: torch,torch==2.13.0)
	$(call install,3/5: convstat$(COMMA) the counters and the tools of the tests,--no-build-isolation --editable '.[counters]' --group dev)
	$(call install,4/5: torchvision,--no-deps torchvision==0.28.0)
	$(call install,5/5: calflops and DeepSpeed,--no-deps --no-build-isolation calflops==0.3.2 deepspeed==0.19.8,DS_BUILD_OPS=0)
	@touch $@

# pip shows what it fetches and installs, with bars on a terminal; standard output is for what was asked of make.
COMMA := ,
define install
@echo "installing $(1)" >&2
@$(3) $(PIP) install --constraint constraints.txt $(2) >&2
endef
