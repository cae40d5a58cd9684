#!/bin/sh
# On a machine with a GPU, from a clone of the repository: the tests marked gpu, then the figures, in under eight minutes.
# benchmarks/gpu.sh [DEVICE] [--quick]; with "cpu --quick" it shows that it works, and measures nothing of a GPU.
set -eu
cd "$(dirname "$0")/.."
device=${1:-cuda}
[ $# -gt 0 ] && shift
export PYTHONPATH="$PWD:$PWD/tests"
if [ "$device" != cpu ]; then
    timeout 200 python -m pytest -q -n 0 -m gpu tests/test_gpu.py
fi
timeout 270 python -m benchmarks.gpu --device "$device" "$@"
