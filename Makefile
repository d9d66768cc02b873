# Commands of the project; `make study` and `make test` need nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
EPOCHS ?= 10
NOTEBOOK ?= nbs
TESTS ?= tests
RUN := runs/study
KATEX := $(VENV)/node_modules/katex

# Of the reports: the model, the photos, and where everything goes.
MODEL ?= compact
DATASET ?= samples
REPORTS ?= runs/reports

# Of pretraining: its length by the clock, or with STEPS by steps; PRETRAIN="-p width 0.5" sets what else it has.
SECONDS ?= 150
LENGTH = $(if $(STEPS),-p steps $(STEPS),-p seconds $(SECONDS))
at_home = $(if $(wildcard $(1)),$(abspath $(1)),$(1))

# Notebooks that papermill wrote (names that start with "out", "_" or ".") are not sources.
SKIP := ^([_.]|out)
NOTEBOOKS := $(shell find nbs -name '*.ipynb' | grep -vE '/([_.]|out)[^/]*$$' | sort)

# Stop in one line where programs are missing.
missing = $(strip $(foreach program,$(1),$(if $(shell command -v $(program) 2>/dev/null),,$(program))))
need = $(if $(call missing,$(1)),$(error make $(MAKECMDGOALS) needs $(call missing,$(1)); on Debian: apt-get install npm chromium chromium-driver))

.PHONY: study test test-site browser export picture reports benchmark reproduce pretrain docs cost

# What runs notebooks in it speaks of errors alone, and doesn't warn of the sockets that it uses on this machine.
$(VENV)/installed: settings.ini setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e '.[dev]'
	mkdir -p $(VENV)/etc/ipython
	echo 'c.IPKernelApp.log_level = "ERROR"' > $(VENV)/etc/ipython/ipython_kernel_config.py
	touch $@

# KaTeX, which the site sets its equations with, comes from npm and is part of the built site.
$(KATEX): | $(VENV)/installed
	$(call need,npm)
	npm install --loglevel error --no-audit --no-fund --prefix $(VENV) katex@0.16 \
	  || { echo "make $(MAKECMDGOALS): npm couldn't install KaTeX, for the reason above; once it can, the same command goes on"; exit 1; }

cost:
	@echo "make study: fine-tuning, notebook 04 of the study; about 6 minutes for 10 epochs on two cores, and 59 MB in nbs/$(RUN)"
	@test -e $(VENV)/installed || echo "before it the packages, most of all PyTorch: 3 to 4 minutes, and 6.5 GB in $(VENV)"

# papermill's bar is for a terminal; in a log only the table of the epochs is left.
study: QUIET = --log-level ERROR $(shell test -t 2 || echo --no-progress-bar)
study: cost $(VENV)/installed
	@cd nbs && $(BIN)/papermill $(QUIET) 04_finetune.ipynb out.ipynb -k python3 -p epochs $(EPOCHS) -p run_dir $(RUN)
	@echo "report:     nbs/out.ipynb"
	@echo "checkpoint: nbs/$(RUN)/model.safetensors"
	@echo "grid:       nbs/$(RUN)/grid.png"
	@echo "numbers:    nbs/$(RUN)/losses.csv"
	@echo "colorization, papermill and jupyter are in $(VENV); to use them: source $(VENV)/bin/activate"

export: $(VENV)/installed
	printf '%s\n' $(NOTEBOOKS) | xargs -n 1 $(BIN)/nbdev_clean --fname
	$(BIN)/nbdev_export --skip_file_re '$(SKIP)'
	$(BIN)/jupyter nbconvert --log-level ERROR --to markdown --RegexRemovePreprocessor.patterns='#. hide' --stdout nbs/index.ipynb | sed -E 's;\]\(([a-z0-9_/]+\.(ipynb|jpg)(#[a-z0-9-]+)?)\);](nbs/\1);g' > README.md

picture: $(VENV)/installed
	cd nbs && $(BIN)/papermill --no-progress-bar -k python3 index.ipynb out_index.ipynb

# Several processes share the cores: threads that wait shouldn't keep them busy.
test: export OMP_WAIT_POLICY = PASSIVE
test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/nbdev_test --skip_file_re '$(SKIP)' --path '$(NOTEBOOK)'
	$(BIN)/python -m pytest -q -rs -n 3 --dist worksteal $(TESTS)
	@echo "Passed. Left out were:"
	@echo "  the site, and the demo in a browser:      make test-site (needs npm, chromium and chromedriver)"
	@echo "  the notebooks' long runs (eval: false):   make study, make reports"
	@echo "  notebook cells flagged slow or cuda:      $(VENV)/bin/nbdev_test --flags 'slow cuda' --skip_file_re '$(SKIP)'"
	@echo "  10,000 damaged image files, 25 kills:     $(VENV)/bin/python -m pytest -m slow tests (FUZZ=… KILLS=… for others)"
	@echo "  jobs on a Ray cluster:                    $(VENV)/bin/pip install -e '.[cluster]' && $(VENV)/bin/python -m pytest -m ray tests"
	@echo "  what else needs a GPU:                    make test, where PyTorch sees one"

browser:
	$(call need,npm chromium chromedriver)

test-site: browser docs
	$(BIN)/python -m pytest -q -rs -m browser tests

reports: $(VENV)/installed
	$(BIN)/colorization report run --folder '$(REPORTS)' --model '$(MODEL)' --dataset '$(DATASET)'
	@echo "figures, numbers and notebooks: $(REPORTS)"

benchmark: $(VENV)/installed
	$(BIN)/pip install -q -e '.[bench]'
	mkdir -p '$(REPORTS)'
	$(BIN)/papermill --log-output --no-progress-bar -k python3 nbs/reports/benchmark.ipynb '$(REPORTS)/benchmark.ipynb' -p folder '$(REPORTS)' $(BENCHMARK)

reproduce: $(VENV)/installed
	mkdir -p '$(REPORTS)'
	$(BIN)/papermill --log-output --no-progress-bar -k python3 nbs/reports/reproduce.ipynb '$(REPORTS)/reproduce.ipynb' \
	  -r dataset '$(call at_home,$(DATASET))' -r folder '$(REPORTS)' $(REPRODUCE)
	@echo "report: $(REPORTS)/reproduce.ipynb"

pretrain: $(VENV)/installed
	cd nbs/reports && $(BIN)/papermill --log-output --no-progress-bar -k python3 pretrain.ipynb out_pretrain.ipynb \
	  -r dataset '$(call at_home,$(DATASET))' $(if $(THUMBNAILS),-r thumbnails '$(call at_home,$(THUMBNAILS))') \
	  $(LENGTH) -p size 112 -p batch_size 512 $(PRETRAIN)
	@echo "report: nbs/reports/out_pretrain.ipynb"

docs: $(VENV)/installed $(KATEX)
	$(BIN)/python .ci/site.py $(KATEX)/dist _docs
