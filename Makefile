# Two commands: `make demo` and `make test`. Both make what they need and reuse what is there.
PYTHON ?= python3.11
export PRESET ?= cpu
ARGS ?=
# torch's threads sleep while they wait: spinning, they took six times as long on busy cores
export OMP_WAIT_POLICY ?= passive
# without kept bytecode every start compiles torch, transformers and gradio again
unexport PYTHONDONTWRITEBYTECODE
CXR = .venv/bin/cxr-rag
# a browser, a Chroma and a torch each: more than four would need more than 24 GB
WORKERS = -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

.PHONY: demo test lint quick arms-small setup llm clean

demo:
	@$(PYTHON) bootstrap.py app data
	@$(PYTHON) bootstrap.py llm & server=$$!; $(CXR) demo --index-only --config $(PRESET) $(ARGS); \
	  wait $$server
	@$(CXR) demo --config $(PRESET) $(ARGS)

test:
	@$(PYTHON) bootstrap.py app data dev llm system
	@.venv/bin/python -m pytest $(WORKERS) $(ARGS)

lint:
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

quick:
	@.venv/bin/python -m pytest $(WORKERS) -q -m "not slow and not e2e"

arms-small: setup
	@rm -rf runs/arms-small
	@.venv/bin/python -m experiments.ablation --config configs/train/arms-small.toml --out runs/arms-small

# what a developer needs: the app, its data, the checks and `.venv/bin/pre-commit`
setup:
	@$(PYTHON) bootstrap.py app data dev

llm:
	@$(PYTHON) bootstrap.py llm

clean:
	rm -rf .venv .venv-llm build *.egg-info
