# Everything runs in .venv, which `make` fills once and again only when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# papermill's stamps are outputs too; nbstripout leaves them in unless they are named.
STRIP_KEYS := metadata.papermill cell.metadata.papermill cell.metadata.execution

BENCHMARKS := bank_search decoding distillation explorer graph_learner graph_size inference

.DEFAULT_GOAL := help
.PHONY: help demo test lab bench dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## install, run the notebooks on the embedded digits, print the results
	@echo "1,797 digits. 01-04: a graph student beside its twin; digits this easy leave little to gain."
	@echo "05: what the graph is worth here: late classes, wrong labels, few labels."
	$(BIN)/cnn2gnn run --dataset digits --run demo --notebooks 01,02,03,04,05

test: $(VENV)/.installed-test ## install, lint, check types, run every notebook and every test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy cnn2gnn benchmarks/*.py
	$(BIN)/nbstripout --verify --extra-keys "$(STRIP_KEYS)" notebooks/*.ipynb
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto \
		--nbval-lax --nbval-current-env --nbval-cell-timeout=600 --timeout=660 notebooks
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

lab: $(VENV)/.installed ## open the notebooks in JupyterLab
	$(BIN)/cnn2gnn lab notebooks

bench: $(VENV)/.installed ## measure speed and memory beside peers, write benchmarks/README.md
	$(BIN)/python -m pip install -q -e ".[bench]"
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/page.py

dist: $(VENV)/.installed-test ## build sdist and wheel in dist/, the wheel from the sdist
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove .venv and caches; runs/ and reports/ stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e ".[test]"
	touch $(VENV)/.installed $@
