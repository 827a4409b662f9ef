#!/usr/bin/env bash
# Checks the code with ruff and pytest; arguments go to pytest, e.g. ./run_tests.sh -m "not slow" -x
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"
bootstrap --extra test
cd "$repository"
status=0
"$python" -m ruff check --output-format concise || status=1
"$python" -m pytest "$@" || status=$?
exit $status
