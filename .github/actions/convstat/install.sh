#!/usr/bin/env bash
# Install convstat, as it is in the version of this action, into an environment of its own.
set -euo pipefail

# The action is a folder of the repository, which is there as a whole.
root=$(cd "$GITHUB_ACTION_PATH/../../.." && pwd)
environment="$RUNNER_TEMP/convstat"
"$CONVSTAT_PYTHON" -m venv "$environment"
scripts="$environment/bin"
[ -d "$scripts" ] || scripts="$environment/Scripts"
# A forward pass is counted, not computed: torch's builds for the CPU do, and are a tenth as large.
pip=("$scripts/python" -m pip --disable-pip-version-check --quiet install
  --extra-index-url https://download.pytorch.org/whl/cpu)
files=()
while IFS= read -r line; do
  line=${line%$'\r'}
  [ -z "${line//[[:space:]]/}" ] || files+=("--requirement=$line")
done <<<"$CONVSTAT_REQUIREMENTS"
case "$CONVSTAT_TORCH" in
  # Together, so that what the requirements ask of torch is kept.
  true) "${pip[@]}" "${files[@]+"${files[@]}"}" "$root" ;;
  false)
    # Specs are counted without torch: this takes seconds.
    "${pip[@]}" "${files[@]+"${files[@]}"}" typer rich pyyaml
    "${pip[@]}" --no-deps "$root"
    ;;
  *)
    echo "::error::torch is true or false, not '$CONVSTAT_TORCH'"
    exit 2
    ;;
esac
"$scripts/convstat" --version
echo "convstat=$scripts/convstat" >>"$GITHUB_OUTPUT"
