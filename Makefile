# The verbs of this project; CONTRIBUTING.md says more. All of them start from a bare system with python3, make and git.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CONFIG ?=
ARGS ?=

.PHONY: run test check format bench soak docs guests clean

run: guests  ## boot a machine: the embedded SMP guest, or CONFIG=configs/linux.yaml; ARGS are more options
	@$(BIN)/mpemu run $(CONFIG) $(ARGS)

test: guests  ## the whole suite; ARGS=tests/isa for a part
	$(BIN)/pytest $(ARGS)

check: $(READY)  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## what `make check` asks for, as far as a tool can do it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: guests  ## the numbers, side by side with other emulators where they are installed
	$(BIN)/python -m bench $(ARGS)

soak: guests  ## the long versions of the tests that look for races
	$(BIN)/pytest -m soak --timeout 3600 $(ARGS)

docs: guests  ## regenerate what is made from the code: docs/reference, docs/images
	$(BIN)/python scripts/docs.py

guests: $(READY)
	@$(BIN)/python guests/build.py >/dev/null

$(READY): pyproject.toml scripts/venv.sh
	@test -x $(BIN)/pip || { echo "mpemu: making the virtual environment .venv" >&2; sh scripts/venv.sh .venv; }
	@echo "mpemu: installing mpemu and what it needs into .venv" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check --prefer-binary --progress-bar on hatchling ziglang
	@$(BIN)/pip install --quiet --disable-pip-version-check --prefer-binary --no-build-isolation --editable '.[dev]'
	@touch $@

clean:
	rm -rf build dist mpemu/guests/*.elf .pytest_cache .mypy_cache .ruff_cache .hypothesis
