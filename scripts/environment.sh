# Sourced by the scripts beside it: makes the Python environment, builds the kernel, and gets what
# tests need beside it.
#
# FERRISDB_PYTHON  the interpreter to make the environment with (default: the first of python3,
#                  python3.14 ... python3.11 that is 3.11 or later)
# FERRISDB_VENV    an environment to use instead of .venv. It may serve several work trees, so
#                  only the requirements are installed in it; this tree is found by PYTHONPATH.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${FERRISDB_VENV:-$root/.venv}
python=$venv/bin/python

# Tests start thousands of processes, and to compile every module in each takes a third of a start.
unset PYTHONDONTWRITEBYTECODE

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local name
    for name in ${FERRISDB_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$name"
            return
        fi
    done
    say "scripts: no Python 3.11 or later found; name one by FERRISDB_PYTHON"
    return 78
}

# make_environment [EXTRA...]: installs what pyproject.toml asks for; does nothing when it is there.
make_environment() {
    local base stamp wanted extras=$*
    if [ ! -x "$python" ]; then
        base=$(find_python)
        say "scripts: making $venv"
        "$base" -m venv "$venv" || {
            say "scripts: '$base -m venv' failed; on Debian it needs the package python3-venv"
            return 78
        }
    fi
    wanted=$("$python" "$root/scripts/environment.py" fingerprint $extras)
    stamp=$venv/ferrisdb-${extras// /-}.stamp
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    say "scripts: installing requirements into $venv"
    "$python" "$root/scripts/environment.py" requirements $extras >"$venv/requirements.txt"
    "$python" -m pip install --quiet --disable-pip-version-check -r "$venv/requirements.txt"
    if [ -z "${FERRISDB_VENV:-}" ]; then
        # Without isolation: what the build requires was installed one line above.
        "$python" -m pip install --quiet --disable-pip-version-check \
            --no-build-isolation --no-deps --editable "$root"
    fi
    printf '%s' "$wanted" >"$stamp"
}

# build_kernel: compiles, in place, the modules that are older than a source of theirs.
build_kernel() {
    local why out
    why=$("$python" "$root/scripts/environment.py" stale)
    if [ -z "$why" ]; then
        return
    fi
    say "scripts: building the kernel (${why%%$'\n'*})"
    mkdir -p "$root/build"
    out=$root/build/kernel.log
    if ! "$python" "$root/scripts/environment.py" build >"$out" 2>&1; then
        cat "$out" >&2
        say "scripts: the kernel does not build; a C compiler and Python's headers are needed"
        return 70
    fi
}

# offer_programs: gets what tests run beside ours: what the socket tests talk by, Redis's own
# programs, hiredis, ioredis; valgrind, which counts instructions. Where it can't, those tests are
# skipped and say what to install.
offer_programs() {
    local missing=()
    command -v valgrind >/dev/null || missing+=(valgrind)
    command -v redis-cli >/dev/null || missing+=(redis-tools)
    [ -e /usr/include/hiredis/hiredis.h ] || missing+=(libhiredis-dev)
    if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "scripts: installing ${missing[*]}"
        # The list may be older than what can be had.
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
            --no-install-recommends "${missing[@]}"; } >"$root/build/apt.log" 2>&1 ||
            say "scripts: that failed, see build/apt.log; tests that need them will be skipped"
    fi
    if [ ! -d "$root/build/node/node_modules/ioredis" ] && command -v npm >/dev/null; then
        mkdir -p "$root/build/node"
        npm install --silent --no-audit --no-fund --prefix "$root/build/node" ioredis@5 \
            >"$root/build/npm.log" 2>&1 ||
            say "scripts: npm install ioredis failed, see build/npm.log; its test will be skipped"
    fi
}
