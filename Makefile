# Commands of the project; `make study` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
EPOCHS ?= 10
RUN := runs/study
KATEX := $(VENV)/node_modules/katex

# Of the reports: the model, the photos, and where everything goes.
MODEL ?= compact
DATASET ?= samples
REPORTS ?= runs/reports

# Notebooks that papermill wrote (names that start with "out", "_" or ".") are not sources.
SKIP := ^([_.]|out)
NOTEBOOKS := $(shell find nbs -name '*.ipynb' | grep -vE '/([_.]|out)[^/]*$$' | sort)

.PHONY: study export picture test reports docs

$(VENV)/installed: settings.ini setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e '.[dev]'
	touch $@

# KaTeX, which the site sets its equations with, comes from npm and is part of the built site.
$(KATEX): | $(VENV)/installed
	npm install --silent --no-audit --no-fund --prefix $(VENV) katex@0.16

study: $(VENV)/installed
	cd nbs && $(BIN)/papermill --log-output --no-progress-bar 04_finetune.ipynb out.ipynb -k python3 -p epochs $(EPOCHS) -p run_dir $(RUN)
	@echo "report:     nbs/out.ipynb"
	@echo "checkpoint: nbs/$(RUN)/model.safetensors"
	@echo "grid:       nbs/$(RUN)/grid.png"

export: $(VENV)/installed
	printf '%s\n' $(NOTEBOOKS) | xargs -n 1 $(BIN)/nbdev_clean --fname
	$(BIN)/nbdev_export --skip_file_re '$(SKIP)'
	$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --RegexRemovePreprocessor.patterns='#. hide' --stdout nbs/index.ipynb | sed -E 's;\]\(([a-z0-9_/]+\.(ipynb|jpg))\);](nbs/\1);g' > README.md

picture: $(VENV)/installed
	cd nbs && $(BIN)/papermill --no-progress-bar -k python3 index.ipynb out_index.ipynb

test: $(VENV)/installed
	$(BIN)/nbdev_test --skip_file_re '$(SKIP)'
	$(BIN)/python -m pytest -q tests

reports: $(VENV)/installed
	$(BIN)/colorization report run --folder '$(REPORTS)' --model '$(MODEL)' --dataset '$(DATASET)'
	@echo "figures, numbers and notebooks: $(REPORTS)"

docs: $(VENV)/installed $(KATEX)
	$(BIN)/python .ci/site.py $(KATEX)/dist _docs
