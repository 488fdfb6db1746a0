# `make demo` and `make test` are all a newcomer needs; each installs what is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test test-all install check lint types floors proto clean starter

demo: install ## three sites train, one patient is scanned: make demo ARGS='--no-serve --out DIR'
	$(BIN)/scantwin demo $(ARGS)

test: install ## style, types, floors, then the quick tests; says what it skipped and why
	$(MAKE) --no-print-directory check
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"
	@echo "Left out: the slow tests (kills in real federations, trainings). make test-all runs them too."

test-all: install ## every test, the slow ones too: half an hour and more on two cores
	$(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: lint types floors

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

floors:
	$(BIN)/lint-imports

install: $(VENV)/.installed

# torch is pinned so that a CPU build is taken where one is offered; the rest follows constraints.txt.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

starter: install ## trains the starter models that ship with the package again, about half an hour
	$(BIN)/python -m benchmarks.starter $(ARGS)

proto: install ## regenerates the gRPC stubs
	$(BIN)/python -m grpc_tools.protoc -Iscantwin_twin/v1=twin/scantwin_twin/proto/scantwin/twin/v1 \
		--python_out=twin --pyi_out=twin --grpc_python_out=twin scantwin_twin/v1/twin.proto

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
