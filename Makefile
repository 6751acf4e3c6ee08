# Each target sets up what it needs. Choose another Python with `make PYTHON=...`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
QUICKSTART := runs/quickstart

.PHONY: quickstart test test-all bench results docs lint format clean

quickstart: $(VENV)/ready  ## the main job, small, with a fault in mid-run
	$(RUN) -m experiments.run --domain=navigation1 --tasks=flip --data_adaptation=50 \
	  --methods=unconstrained,recovery_rl,multi_task,mesa,mesa_context --seeds=8 \
	  --fault=reversed:part=1,onset=600 --online_steps=1200 --online_episodes=1000 \
	  --online_evaluate_every=1000 --maml_steps=1000 --pooled_steps=1000 \
	  --workdir=$(QUICKSTART)

test: lint  ## lint and the quick tests
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: lint  ## also the slow ones, programs optimised as launches have them
	XLA_FLAGS= $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/ready  ## throughput on this machine: a table, and a figure in runs/
	$(RUN) -m experiments.benchmark --output=runs/benchmark.json

results: $(VENV)/ready  ## the commands of a page of results: NAME=PAGE; without, the pages
	@bash experiments/commands.sh $(NAME)

docs: $(VENV)/docs  ## the documents as a site, links checked: .cache/docs/docs/index.html
	$(RUN) -m sphinx -W --keep-going -q -c docs . .cache/docs

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:  ## removes the environment and caches, keeps runs/
	rm -rf $(VENV) .cache build .pytest_cache .ruff_cache .hypothesis

$(VENV)/ready: requirements.lock setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@touch $@

$(VENV)/docs: $(VENV)/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --constraint requirements.lock --editable ".[docs]"
	@touch $@
