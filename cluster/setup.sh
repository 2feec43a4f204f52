#!/usr/bin/env bash
# Makes a node's environment, once: a folder of its own for each state of pyproject.toml, the constraints and this file.
#
# It enters with the project synced and leaves with `python` and `ray` of the environment first on the PATH of every
# login shell: `ray down` stops only what its shell finds. Called again it does nothing. It must never change the
# environment that a running Ray uses, so that an older one stays beside the new one.
set -euo pipefail

PYTHON_VERSION=3.11
UV_VERSION=0.13.9
project=$(cd "$(dirname "$0")/.." && pwd)
home=${GOLF_ENVIRONMENTS:-$HOME/golf-env}

mkdir -p "$home"
exec 9>"$home/lock"
flock 9

# Prints how to make a virtual environment with the wanted Python: the machine's own, else one that uv fetches.
make_environment() {
  if python$PYTHON_VERSION -c 'import ensurepip, venv' 2>/dev/null; then
    python$PYTHON_VERSION -m venv --clear "$1"
    return
  fi
  python3 -m pip --version >/dev/null 2>&1 || { sudo apt-get update -q && sudo apt-get install -qy python3-pip; }
  python3 -m pip install --quiet --upgrade --target "$home/uv" "uv==$UV_VERSION"
  "$home/uv/bin/uv" venv --clear --seed --managed-python --python $PYTHON_VERSION "$1"
}

key=$(cat "$project/pyproject.toml" "$project/cluster/constraints.txt" "$project/cluster/setup.sh" | sha256sum | cut -c 1-12)
environment=$home/$key
if [ -e "$environment/.complete" ]; then
  echo "environment $key is complete"
else
  echo "building environment $key, a few minutes"
  make_environment "$environment"
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$project/cluster/constraints.txt" --editable "$project"
  "$environment/bin/python" -m pip check
  "$environment/bin/python" -c 'import torch, ray, mlflow, optuna, boto3'
  touch "$environment/.complete"
fi
ln -sfn "$key" "$home/current"

# Before all other lines: Ubuntu's .bashrc ends early in shells that are not interactive.
line="export PATH=\"$home/current/bin:\$PATH\"  # golf-tune"
for file in "$HOME/.bashrc" "$HOME/.profile"; do
  touch "$file"
  if ! grep -qxF "$line" "$file"; then
    printf '%s\n%s' "$line" "$(grep -v '# golf-tune$' "$file" || true)" >"$file.golf" && cat "$file.golf" >"$file"
    echo >>"$file"
    rm "$file.golf"
  fi
done
