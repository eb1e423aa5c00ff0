# Zhiwang: `make demo` runs a city, `make test` tests it. Everything else that is needed is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
ONLY   ?=
ROWS   ?=
WORKERS ?= 2
OLD_SQLALCHEMY := build/sqlalchemy20

.PHONY: install demo test test-sqlalchemy20 check format lint types layers proto drift docs protos protos-generate lock bench bench-long sweep-long faults clean

install: $(STAMP)

$(STAMP): requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Zhiwang needs Python 3.11 or later; say which one with: make install PYTHON=python3.12"; exit 1; }
	@echo "installing into $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . >&2
	@touch $(STAMP)

demo: install
	@$(BIN)/zhiwang demo $(ARGS)

test: install
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

# National drivers of databases are written for SQLAlchemy 2.0; here it stands before the installed one on the path.
test-sqlalchemy20: install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade --target $(OLD_SQLALCHEMY) -r dev/requirements-sqlalchemy20.txt
	PYTHONPATH=$(OLD_SQLALCHEMY) $(BIN)/python -c 'import sqlalchemy; print("SQLAlchemy", sqlalchemy.__version__); assert sqlalchemy.__version__.startswith("2.0.")'
	PYTHONPATH=$(OLD_SQLALCHEMY) $(BIN)/python -m pytest -n $(WORKERS) tests/contract/test_databases.py tests/contract/test_databases_schemas.py tests/contract/test_databases_trouble.py tests/unit/adapters $(ARGS)

check: format lint types layers proto drift test

format: install
	$(BIN)/ruff format --check .

lint: install
	$(BIN)/ruff check .

types: install
	$(BIN)/mypy exchange policy adapters audit certs proto/zhiwang/wire dev bench tests

layers: install
	PYTHONPATH=proto $(BIN)/lint-imports --no-cache

proto: install
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

drift: install
	$(BIN)/python dev/generate_protos.py --check
	$(BIN)/python dev/make_error_docs.py --check
	$(BIN)/python dev/make_config_docs.py --check
	$(BIN)/python dev/make_cli_docs.py --check
	$(BIN)/python dev/make_vectors.py --check

docs: install
	$(BIN)/python dev/make_error_docs.py
	$(BIN)/python dev/make_config_docs.py
	$(BIN)/python dev/make_cli_docs.py

protos: install
	@$(BIN)/python dev/pack_protos.py

protos-generate: install
	$(BIN)/python dev/generate_protos.py

lock: install
	$(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements-dev.txt pyproject.toml

bench: install
	PYTHONPATH=tests/support $(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

# To ten million entries of a log: more than an hour, and 30 GB in the temporary directory.
bench-long: install
	PYTHONPATH=tests/support $(BIN)/python -m bench --long

# A sweep of a million rows against real processes: a quarter of an hour and more. ROWS=300000 for fewer.
sweep-long: install
	PYTHONPATH=tests/support $(BIN)/python -m bench.sweep $(if $(ROWS),--rows $(ROWS))

faults: install
	PYTHONPATH=tests/support $(BIN)/python -m campaign $(if $(ONLY),--only "$(ONLY)") $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
