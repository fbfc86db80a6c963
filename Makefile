# make demo    see the whole of it run: needs Python 3.10 or newer, nothing else
# make web     the clinic's web application on it, at an address that it prints
# make test    all tests, on real servers        make check   ruff, mypy, import-linter, bandit
# make bench   the benchmark                     make clean   stop and remove what these made
# make torture random trials, for hours: ARGS="--minutes 10" for a slice, "--seed N" for the same ones,
#              ROUNDS=10 for ten times as many
#
# All paths are relative, so a checkout whose own path has spaces in it works.

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 python3.10
WORKERS ?= 3
ROUNDS ?= 1
ARGS ?=

# with it, each start of inv would compile all of pgtasks anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo web test torture check bench clean
.DEFAULT_GOAL := demo

demo: .venv/installed
	@.venv/bin/python -m clinic.demo

web: .venv/installed-web
	@.venv/bin/python -m clinic.web $(ARGS)

test: .venv/installed-dev
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

torture: .venv/installed-dev
	@.venv/bin/python -m pytest torture -n 2 --rounds $(ROUNDS) $(ARGS)

check: .venv/installed-dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache --no-logo
	@.venv/bin/bandit --quiet --recursive --configfile pyproject.toml pgtasks tasks

bench: .venv/installed-dev
	@.venv/bin/python bench/run.py $(ARGS)

clean:
	@if [ -d .pgtasks ] && [ -x .venv/bin/python ]; then .venv/bin/python -m clinic.demo --clean; \
	elif [ -d .pgtasks ]; then echo ".pgtasks stays: without .venv a server of it that runs cannot be stopped"; fi
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

# A virtual environment is made by the first Python that can make one, and made anew when the Python
# below it is gone. Debian's python3 has no ensurepip until python3-venv is there, and would leave
# half an environment behind.
.venv/installed: requirements.txt pyproject.toml
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || { \
	  for python in $(PYTHON); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue; \
	    recent=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    echo "making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv && exit 0; \
	    exit 1; \
	  done; \
	  if [ -n "$$recent" ]; then \
	    version=$$("$$recent" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "$$recent cannot make a virtual environment, install its package: apt install python$$version-venv" >&2; \
	  else \
	    echo "no Python 3.10 or newer found, looked for: $(PYTHON); name one with make PYTHON=..." >&2; \
	  fi; exit 1; }
	@echo "installing requirements.txt (once, and after it changes)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/installed-web: .venv/installed requirements-web.txt
	@echo "installing requirements-web.txt (once, and after it changes)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-web.txt
	@touch $@

# beside them the other SQLAlchemy that pgtasks.service knows, for tests/service/test_sqlalchemy.py
.venv/installed-dev: .venv/installed-web requirements-dev.txt
	@echo "installing requirements-dev.txt (once, and after it changes)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target .venv/sqlalchemy-2.0 "sqlalchemy>=2.0.36,<2.1"
	@touch $@
