# Sourced by run_all.sh, run_tests.sh and .ci/run: sets $python to an interpreter that has what the project
# needs. That is the active environment (venv or conda) if it has everything, else .venv, which is built from
# requirements.lock on the first start and brought up to date when the lock changes.
#
#   . bootstrap.sh [EXTRA]      EXTRA: an extra of pyproject.toml the active environment must have too ("test")

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$repository/.venv

bootstrap() {
  local active
  # Notebooks and Snakemake start processes of their own: they find asel_lib and the right programs this way.
  export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH}
  if active=$(active_environment) && lacks=$("$active" -I "$repository/pipeline/check_environment.py" "$@" 2>&1); then
    python=$active
  else
    python=$venv/bin/python
    [ "$(cat "$venv/asel.stamp" 2>/dev/null)" = "$(stamp)" ] && [ -x "$python" ] || build || return
    export VIRTUAL_ENV=$venv
    unset PYTHONHOME
  fi
  export PATH=$(dirname "$python"):$PATH
}

# The Python of the active environment, if one is active that is not our own.
active_environment() {
  local prefix=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
  [ -n "$prefix" ] && [ ! "$prefix" -ef "$venv" ] && [ -x "$prefix/bin/python" ] && echo "$prefix/bin/python"
}

# What .venv was built from, and where: a folder that was moved is built again, for its paths are absolute.
stamp() {
  cksum < "$repository/requirements.lock"
  echo "$repository"
}

build() {
  local base
  base=$(find_python) || return
  [ -z "${lacks:-}" ] || echo "The active environment lacks $lacks: using .venv instead." >&2
  echo "Building .venv from requirements.lock (once; a few minutes, about 6 GB with CUDA libraries) ..." >&2
  # One build at a time: the second waits and finds the work done. The kernel frees the lock of a killed one.
  "$base" -c 'import fcntl, subprocess, sys
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    sys.exit(subprocess.call(sys.argv[2:]))' "$repository/.venv.lock" \
    bash -c '. "$1"; build_locked "$2"' build "$repository/bootstrap.sh" "$base"
}

build_locked() {
  local base=$1 uv
  [ "$(cat "$venv/asel.stamp" 2>/dev/null)" != "$(stamp)" ] || return 0
  rm -f "$venv/asel.stamp" # comes back last, so that a build that was cut off is taken up again
  if uv --version >/dev/null 2>&1; then
    uv=uv
    "$venv/bin/python" -c '' 2>/dev/null || uv venv --quiet --clear --python "$base" "$venv" || return
  else
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 && ! "$base" -m venv --clear "$venv"; then
      echo "error: $base cannot make a virtual environment. Install uv, or your system's python3-venv." >&2
      return 1
    fi
    uv=$venv/uv/bin/uv # beside site-packages, where `uv pip sync` would remove it as not in the lock
    "$uv" --version >/dev/null 2>&1 ||
      "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade --target "$venv/uv" uv || return
  fi
  # Compiled now, once, or every first import pays for it. The list of packages is for a terminal only.
  "$uv" pip sync $([ -t 2 ] || echo --quiet) --python "$venv/bin/python" --require-hashes --compile-bytecode \
    "$repository/requirements.lock" || return
  # The project itself: its folder on the path of every interpreter and kernel of this environment.
  "$venv/bin/python" - "$repository" <<'PTH' || return
import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "asel.pth").write_text(sys.argv[1] + "\n")
PTH
  stamp > "$venv/asel.stamp"
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed; $(python3 --version 2>&1 || echo 'no python3') is on PATH." \
    "Install one, or activate an environment that has it." >&2
  return 1
}
