#!/usr/bin/env bash
# The checks that need a GPU: counts, counters beside their predictions, and peak memory, on one NVIDIA GPU.
#
#   tests/device/run.sh            needs nothing but the repository and a python3 that has torch; six minutes at most
#
# It prints one table, and writes it to $OUT/device.txt where OUT is set; pytest's own report goes to $OUT/pytest.txt.
# PYTHON names another interpreter. What cannot be installed, because there is no network, is skipped and counted:
# counters that are not there. Without a GPU everything is skipped; CONVSTAT_TEST_DEVICE=cpu tries the checks themselves.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

BEGAN=$SECONDS
LIMIT=${LIMIT:-350}          # seconds for everything
INSTALL=${INSTALL:-60}       # seconds for each attempt to install something
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

left() { echo $((LIMIT - (SECONDS - BEGAN))); }

# The environment of the repository if it is there, else the python that has torch.
if [ -z "${PYTHON:-}" ]; then
    for PYTHON in .venv/bin/python python3 python; do
        "$PYTHON" -c 'import torch' 2>/dev/null && break
    done
fi
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
    echo "there is no python with torch: name one with PYTHON=..." >&2
    exit 2
fi

# What is missing goes into a folder of its own, so that nothing that is there is changed; torch is never replaced.
missing() {
    "$PYTHON" - "$@" <<'PY'
import sys
from importlib.util import find_spec
print(*(pair.partition("=")[2] or pair for pair in sys.argv[1:] if find_spec(pair.partition("=")[0]) is None))
PY
}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
fetch() {
    # shellcheck disable=SC2086 -- a list of names
    timeout "$INSTALL" "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-cache-dir --retries 0 \
        --timeout 10 --no-deps --target "$WORK/site" $1 >"$WORK/pip.txt" 2>&1
}
needed=$(missing pytest iniconfig pluggy packaging pygments=Pygments hypothesis sortedcontainers yaml=PyYAML numpy)
counters=$(missing ptflops torchsummary torchinfo thop=ultralytics-thop torchscan torchstat fvcore iopath portalocker \
    yacs tabulate termcolor torchprofile)
if [ -n "$needed" ] && ! fetch "$needed"; then
    echo "these are missing and could not be installed: $needed" >&2
    exit 2
fi
if [ -n "$counters" ]; then
    fetch "$counters" || echo "these counters could not be installed, and are skipped: $counters" >&2
fi
export PYTHONPATH="$PYTHONPATH:$WORK/site"

export CONVSTAT_DEVICE_ROWS="$WORK/rows.jsonl" PYTHONDONTWRITEBYTECODE=1
timeout --signal=INT --kill-after=10 "$(left)" "$PYTHON" -m pytest tests/test_cuda.py -m cuda -rsfE --tb=short \
    --override-ini addopts='-q --strict-markers -p no:cacheprovider' >"$WORK/pytest.txt" 2>&1
status=$?
if [ -n "${OUT:-}" ]; then
    mkdir -p "$OUT" && cp "$WORK/pytest.txt" "$OUT/pytest.txt"
fi
[ "$status" -ge 2 ] && tail -n 40 "$WORK/pytest.txt" >&2
"$PYTHON" tests/device/table.py "$WORK/rows.jsonl" "$WORK/pytest.txt"
[ "$status" -eq 124 ] && echo "the time of $LIMIT seconds was up" >&2
exit "$status"
