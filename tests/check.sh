#!/bin/sh
# Everything that must hold: lint, types, tests, examples in docstrings, a study through the real command.
# Kernels for GPUs cannot be imported where there is no Triton. Arguments are pytest's: --cov says which lines no
# test runs, and makes the tests a third slower.
set -e
cd "$(dirname "$0")/.."
ruff format --check reluexp tests benchmarks examples
ruff check reluexp tests benchmarks examples
mypy
python -m pytest -q -n 2 --dist worksteal --doctest-modules "$@" --ignore=reluexp/networks/kernels.py reluexp tests
reluexp run smoke --fresh --quiet --results "$(mktemp -d)"
