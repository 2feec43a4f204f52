#!/bin/sh
# All that wants a GPU, in under 10 minutes on one H100 or H200: sh benchmarks/gpu.sh [--help]
# Needs PyTorch and NumPy alone. PYTHON names the interpreter; else that of .venv, else python3.
cd "$(dirname "$0")/.." || exit 2
[ -n "$PYTHON" ] || { [ -x .venv/bin/python ] && PYTHON=.venv/bin/python; } || PYTHON=python3
exec "$PYTHON" -m benchmarks.gpu "$@"
