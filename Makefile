# `make play` plays, `make test` tests, `make setup` only installs. Each does all set-up first, into .venv, and uses
# nothing outside it. pip's own settings apply: PIP_EXTRA_INDEX_URL may name PyTorch's index of CPU wheels, so that a
# machine without a GPU fetches no CUDA. `make PYTHON=/path/to/python3` chooses the interpreter.

.PHONY: play test lint setup clean
.DELETE_ON_ERROR:

unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONNOUSERSITE := 1

PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
BIN := .venv/bin
EXTRAS := play,video,atari,doom,minigrid,box2d,train,eval,rl,serve,export,test
STAMP := .venv/.installed

play: setup
	@$(BIN)/worldsim play boxing

test: lint
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

setup: $(STAMP)

# torch comes first and alone, so that no other package's wish can choose its build.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { $(find_python) && "$$python" -m venv --clear .venv; }
	@echo "make: installing worldsim and what it needs into .venv, some minutes the first time"
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt torch
	@$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Sets $python to the first interpreter that runs, is new enough and can make an environment.
define find_python
for python in $(PYTHONS); do \
  "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && break; python=; \
done; \
[ -n "$$python" ] || { echo "make: none of $(PYTHONS) is Python 3.11 or newer with its venv module \
(python3 is $$(python3 --version 2>&1 || true)); name one with make PYTHON=/path/to/python3.11" >&2; exit 1; }
endef
