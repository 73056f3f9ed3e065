#!/usr/bin/env bash
# Install convstat, as it is in the version of this action, into an environment of its own.
set -euo pipefail

# The action is a folder of the repository, which is there as a whole.
root=$(cd "$GITHUB_ACTION_PATH/../../.." && pwd)
environment="$RUNNER_TEMP/convstat"
"$CONVSTAT_PYTHON" -m venv "$environment"
scripts="$environment/bin"
[ -d "$scripts" ] || scripts="$environment/Scripts"
pip=("$scripts/python" -m pip --disable-pip-version-check --quiet install)
case "$CONVSTAT_TORCH" in
  true) "${pip[@]}" "$root" ;;
  false)
    # Specs are counted without torch: this takes seconds.
    "${pip[@]}" typer rich pyyaml
    "${pip[@]}" --no-deps "$root"
    ;;
  *)
    echo "::error::torch is true or false, not '$CONVSTAT_TORCH'"
    exit 2
    ;;
esac
"$scripts/convstat" --version
echo "convstat=$scripts/convstat" >>"$GITHUB_OUTPUT"
