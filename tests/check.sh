#!/bin/sh
# Everything that must hold: lint, types, tests with coverage, examples in docstrings, a study through the real command.
set -e
cd "$(dirname "$0")/.."
ruff format --check reluexp tests benchmarks examples
ruff check reluexp tests benchmarks examples
mypy
python -m pytest -q -n 2 --dist worksteal --doctest-modules --cov --cov-report=term:skip-covered reluexp tests
reluexp run smoke --fresh --quiet --results "$(mktemp -d)"
