# `make demo` and `make test` do all the set-up on a fresh machine; second runs skip what is done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.PHONY: demo test check docs bench native clean

demo: $(COMPILED)
	$(BIN)/wiry search

test: $(COMPILED)
	$(BIN)/python -m pytest -n 2

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(INSTALLED)
	$(BIN)/mkdocs build --strict --quiet

bench: $(COMPILED)
	$(BIN)/python benchmarks/attack_step.py
	$(BIN)/python benchmarks/runtime.py --fast

native: $(INSTALLED) # fails where the sparse runtime cannot be compiled; the others go on without
	$(BIN)/python build_tools/native.py
	touch $(COMPILED)

$(COMPILED): $(INSTALLED) $(wildcard CMakeLists.txt) $(shell find src/wiry/runtime/native -type f 2>/dev/null)
	$(BIN)/python build_tools/native.py || true
	touch $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("wiry needs Python 3.11 or later; set PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@
	touch $(COMPILED)

clean:
	rm -rf $(VENV) site dist build src/wiry/runtime/_native* .pytest_cache .ruff_cache .hypothesis
