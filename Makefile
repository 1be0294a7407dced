# The few verbs a newcomer needs. `make test` is the README's command without its installation.
PYTHON ?= .venv/bin/python

.PHONY: demo test lint bench picture
demo:
	$(PYTHON) -m realtime_ser replay demo
test:
	$(PYTHON) -m pytest -n auto
lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
bench:
	$(PYTHON) benchmarks/replay.py
picture:
	$(PYTHON) -m tools.picture -o docs/dashboard.svg
