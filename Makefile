# Two commands: `make demo` and `make test`. Both install what they need and reuse what exists.
PYTHON ?= python3.11
export PRESET ?= cpu
ARGS ?=
# idle torch threads sleep instead of spinning, which took six times as long on busy cores
export OMP_WAIT_POLICY ?= passive
# without cached bytecode every start would compile torch, transformers and gradio again
unexport PYTHONDONTWRITEBYTECODE
CXR = .venv/bin/cxr-rag
# each worker runs a browser, Chroma and torch: more than four need over 24 GB
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

# for developers: the app, its data, the checks and `.venv/bin/pre-commit`
setup:
	@$(PYTHON) bootstrap.py app data dev

llm:
	@$(PYTHON) bootstrap.py llm

clean:
	rm -rf .venv .venv-llm build *.egg-info
