# Sourced by run_all.sh, run_tests.sh and .ci/run: sets $python to an interpreter that has what the project
# needs. That is the active environment (venv or conda) if it has everything, else .venv, which is built from
# requirements.lock on the first start and brought up to date when the lock changes.
#
#   . bootstrap.sh; bootstrap [--extra test]      an extra of pyproject.toml the active environment must have too
#
# ASEL_TORCH=cpu: builds .venv with PyTorch's CPU wheels of the locked versions, from their own index by uv's
# --torch-backend (about 2 GB in place of 6). They have no hashes in the lock, everything else is checked. Where that
# index cannot be reached, .venv is as the lock has it, and a line says so.

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
    # What .venv was built with holds until something else is asked for.
    export ASEL_TORCH=${ASEL_TORCH-$(sed -n 's/^torch: //p' "$venv/asel.stamp" 2>/dev/null)}
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
  echo "torch: ${ASEL_TORCH:-}"
}

build() {
  local base
  base=$(find_python) || return
  [ -z "${lacks:-}" ] || echo "The active environment lacks $lacks: using .venv instead." >&2
  case ${ASEL_TORCH:-} in
    "") echo "Building .venv from requirements.lock (once; a few minutes, about 6 GB with CUDA libraries; without a GPU" \
      "ASEL_TORCH=cpu makes it 2 GB) ..." >&2 ;;
    cpu) echo "Building .venv from requirements.lock, with PyTorch for the CPU (once; a few minutes) ..." >&2 ;;
    *) echo "error: ASEL_TORCH is '$ASEL_TORCH': expected cpu, or nothing for what requirements.lock has" >&2; return 1 ;;
  esac
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
  if [ "${ASEL_TORCH:-}" != cpu ] || ! install_for_cpu "$uv"; then
    sync "$uv" "$repository/requirements.lock" || return
  fi
  # The project itself: its folder on the path of every interpreter and kernel of this environment.
  "$venv/bin/python" - "$repository" <<'PTH' || return
import pathlib, sys, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "asel.pth").write_text(sys.argv[1] + "\n")
PTH
  stamp > "$venv/asel.stamp"
}

# Compiled now, once, or every first import pays for it. The list of packages is for a terminal only.
sync() {
  "$1" pip sync $([ -t 2 ] || echo --quiet) --python "$venv/bin/python" --require-hashes --compile-bytecode "$2"
}

# PyTorch for the CPU, then the rest of the lock. uv's own words about an index that it cannot reach are kept back: the
# line here says what follows from it.
install_for_cpu() {
  local uv=$1 lock=$repository/requirements.lock pinned
  pinned=$(sed -nE 's/^(torch|torchvision)==([^ ]+).*/\1==\2/p' "$lock")
  if ! "$uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu --no-deps --dry-run --reinstall \
    $pinned 2>/dev/null; then
    echo "The index of PyTorch's CPU wheels cannot be reached: installing PyTorch from the lock, with CUDA libraries." >&2
    return 1
  fi
  awk '/^[a-z0-9]/ { out = /^(torch|torchvision|triton|nvidia-|cuda-)/ } !out' "$lock" > "$venv/cpu.lock"
  sync "$uv" "$venv/cpu.lock" &&
    "$uv" pip install --quiet --python "$venv/bin/python" --torch-backend cpu --no-deps --compile-bytecode $pinned
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
