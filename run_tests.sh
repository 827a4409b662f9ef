#!/usr/bin/env bash
# Checks the code with ruff and pytest; arguments go to pytest, e.g. ./run_tests.sh -m "not slow" -x
# Tests run on up to four cores, a test on each; -n 0: one after the other, as pytest's -s and --pdb want it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"
bootstrap --extra test
cd "$repository"
status=0
"$python" -m ruff check --output-format concise || status=1
"$python" -m ruff format --check --quiet || { status=1; echo "run: ruff format" >&2; }
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # a core a test: more threads would wait for each other
cores=$("$python" -c 'from asel_lib.reproducibility import cores; print(min(4, cores()))')
# The slow ones come first (tests/conftest.py) and go out one by one, so that no core waits at the end for another's.
"$python" -m pytest --numprocesses "$cores" --dist load --maxschedchunk 1 "$@" || status=$?
exit $status
