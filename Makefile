# Everything a stranger needs: `make demo` and `make test` set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Exact versions that were tested, on the Python they were tested with; drop it with `make CONSTRAINTS=`.
CONSTRAINTS ?= -c constraints.txt

# The default tests run in one process per core, eight at most; `make test WORKERS=0` runs them in one.
WORKERS ?= auto
TESTS := $(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

BESIDE := $(if $(AGAINST),--against $(AGAINST))
BESIDE_V2 := $(if $(AGAINST_V2),--against_v2 $(AGAINST_V2))
MUON := $(if $(GRAM),--gram $(GRAM))

# only where the package that it compares with is installed
TARS = $(shell $(BIN)/python -c "import webdataset" 2>/dev/null && echo tar_reading)

.PHONY: demo test test-slow test-gpu check bench bench-gpu format clean help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	touch $@

demo: $(VENV)/installed  ## train encoder, autoencoder and generator on the bundled images, sample, write outputs/demo/report.html
	$(BIN)/unirae demo

test: $(VENV)/installed-dev  ## the default tests: CPU, offline, minutes; one process per core or WORKERS=N
	$(TESTS)

test-slow: $(VENV)/installed-dev  ## the slow tests: the smoke experiment, the demo
	$(BIN)/pytest -m slow --timeout 3000

test-gpu: $(VENV)/installed-dev  ## what only a CUDA device shows, a minute or two
	$(BIN)/pytest -m gpu

check: $(VENV)/installed-dev  ## formatting, lint, types, layers, then the default tests
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(TESTS)

bench: $(VENV)/installed-dev  ## measure beside the official code: make bench AGAINST=DIR AGAINST_V2=DIR GRAM=DIR; with CHECK=1 compare with the committed results
	failed=; \
	for run in "training_stage1 $(BESIDE)" "training_stage2 $(BESIDE)" "autoencoder $(BESIDE)" "sampling $(BESIDE)" "solvers $(BESIDE)" \
		"training_v2 $(BESIDE_V2) $(MUON)" "sampling_v2 $(BESIDE_V2)" "muon_step $(BESIDE_V2) $(MUON)" \
		"evaluation --images 300 --rounds 1" "evaluation --extractor projection --rounds 5" data memory $(TARS); do \
		set -- $$run; script=$$1; shift; \
		$(BIN)/python benchmarks/$$script.py "$$@" $(if $(CHECK),--check) || failed="$$failed $$script"; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }
	$(if $(CHECK),,$(BIN)/python benchmarks/where_time_goes.py && $(BIN)/python benchmarks/where_memory_goes.py $(BESIDE) $(BESIDE_V2) $(MUON) && $(BIN)/python benchmarks/report.py)

bench-gpu: $(VENV)/installed-dev  ## the same on one GPU of 80 GB, in 15 minutes: what only a GPU shows, then full sizes beside both references
	failed=; \
	for run in "200 $(BIN)/pytest -m gpu" "420 $(BIN)/python benchmarks/one_gpu_v2.py $(BESIDE_V2) $(MUON)" \
		"280 $(BIN)/python benchmarks/one_gpu.py $(BESIDE) --only stage2_xl sampling_xl sampling_xl_cfg"; do \
		timeout $$run || failed="$$failed; $$run"; \
	done; \
	[ -z "$$failed" ] || { echo "failed or cut off$$failed"; exit 1; }

format: $(VENV)/installed-dev  ## let ruff format and mend
	$(BIN)/ruff format src tests tools benchmarks
	$(BIN)/ruff check --fix src tests tools benchmarks

clean:  ## remove the environment and caches; outputs/ and logs/ stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
