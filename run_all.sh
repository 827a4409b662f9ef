#!/usr/bin/env bash
# Runs the notebooks of one profile and leaves results, figures and an index under benchmarks_results/runs/.
# ./run_all.sh --help lists the options.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/bootstrap.sh"
bootstrap
exec "$python" "$repository/pipeline/run.py" "$@"
