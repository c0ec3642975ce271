# Two commands, each complete on a machine with Python 3.11 to 3.13 and make:
#
#   make generate PROMPT="a red balloon above a blue house"    a picture; ARGS="--seed 7" passes any other flag
#   make test                                                  everything CI checks; ARGS="-k noise" goes to pytest
#
# and one for in between: make check, format, lint, types, layers and the tests of what changed (CONTRIBUTING.md).
#
# Each has its own environment: .venv holds the core only (no torch, under 300 MB), .venv-test everything.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help generate check check-types check-tests test test-swift clean

# As typed, with every $ in it: the shell gets it as a variable and never reads it as code.
override PROMPT := $(value PROMPT)
export PROMPT

FITS := import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	if "$$python" -c '$(FITS)' >/dev/null 2>&1; then echo "$$python"; break; fi; done)

help:
	@echo 'make generate PROMPT="a red balloon above a blue house"   a picture from a prompt'
	@echo 'make check                                                format, lint, types, layers, tests of what changed'
	@echo 'make test                                                 every check and test'
	@echo 'make test-swift                                           the Swift package, where there is a Swift (apps/phone/swift)'
	@echo 'make clean                                                removes both environments'

generate: .venv/installed
	@if [ -z "$$PROMPT" ]; then echo 'no prompt: make generate PROMPT="a red balloon above a blue house"' >&2; exit 2; fi
	@.venv/bin/amused-lite generate $(ARGS) -- "$$PROMPT"

test: .venv-test/installed
	.venv-test/bin/ruff check .
	.venv-test/bin/pyright --pythonpath .venv-test/bin/python
	.venv-test/bin/lint-imports
	.venv-test/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# Types and tests side by side, since each keeps one core busy. BASE=REVISION names another base than main.
check: .venv-test/installed
	.venv-test/bin/ruff format --check .
	.venv-test/bin/ruff check .
	.venv-test/bin/lint-imports
	@$(MAKE) --no-print-directory -j 2 check-types check-tests

check-types:
	@files=$$(.venv-test/bin/python tests/changed.py --types $(BASE)) || exit 1; \
	if [ -z "$$files" ]; then echo 'no types belong to what changed'; \
	else .venv-test/bin/pyright --pythonpath .venv-test/bin/python $$files; fi

check-tests:
	@tests=$$(.venv-test/bin/python tests/changed.py $(BASE)) || exit 1; \
	if [ -z "$$tests" ]; then echo 'no test belongs to what changed'; \
	else .venv-test/bin/python -m pytest -q $(ARGS) $$tests; fi

# PICTURES=N draws so many of Python's pictures again, besides two edits.
test-swift: .venv-test/installed
	@PATH="$(CURDIR)/.venv-test/bin:$$PATH" apps/phone/swift/test.sh $(PICTURES)

clean:
	rm -rf .venv .venv-test build *.egg-info

.venv/installed: pyproject.toml constraints.txt
	$(call install,.venv,.)

.venv-test/installed: pyproject.toml constraints.txt
	$(call install,.venv-test,.[test])

# An environment with this checkout in it. The stamp is touched last, so a broken installation is tried again.
define install
	@if [ -z '$(PYTHON)' ] || ! '$(PYTHON)' -c '$(FITS)' >/dev/null 2>&1; then \
		found=$$(for python in '$(PYTHON)' python3 python; do \
			command -v "$$python" >/dev/null 2>&1 && "$$python" --version 2>&1 && break; done); \
		echo "amused-lite needs Python 3.11, 3.12 or 3.13, found: $${found:-none}." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; fi
	@echo "installing into $(1) (once)"
	@'$(PYTHON)' -m venv $(1) || { \
		echo "this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(2)'
	@touch $@
endef
