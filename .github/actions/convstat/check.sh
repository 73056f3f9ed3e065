#!/usr/bin/env bash
# Run `convstat check` with what the inputs say; text from outside is data here, and never a part of the script.
set -euo pipefail

arguments=()
# Each line is one argument, whatever is in it.
while IFS= read -r line; do
  line=${line%$'\r'}
  [ -z "${line//[[:space:]]/}" ] || arguments+=("$line")
done <<<"$CONVSTAT_TARGETS"$'\n'"$CONVSTAT_ARGUMENTS"

base=$CONVSTAT_BASE_INPUT
if [ -z "$base" ] && [ -n "${GITHUB_BASE_REF:-}" ]; then
  if git rev-parse --verify --quiet "origin/$GITHUB_BASE_REF^{commit}" >/dev/null; then
    base="origin/$GITHUB_BASE_REF"
  else
    echo "origin/$GITHUB_BASE_REF is not in this checkout, so there is no base: actions/checkout takes fetch-depth: 0"
  fi
fi
[ -z "$base" ] || [ "$base" = none ] || arguments+=("--base=$base")
if [ -n "$CONVSTAT_COMMENT" ]; then arguments+=("--output=comment=$CONVSTAT_COMMENT"); fi
if [ -n "$CONVSTAT_REPORT" ]; then arguments+=("--output=json=$CONVSTAT_REPORT"); fi

code=0
"$CONVSTAT" check "${arguments[@]+"${arguments[@]}"}" || code=$?
{
  echo "exit-code=$code"
  # After a mistake nothing was written: what lies there is of another run.
  case $code in
    0 | 1 | 4)
      if [ -n "$CONVSTAT_COMMENT" ]; then echo "comment=$CONVSTAT_COMMENT"; fi
      if [ -n "$CONVSTAT_REPORT" ]; then echo "report=$CONVSTAT_REPORT"; fi
      ;;
  esac
} >>"$GITHUB_OUTPUT"
exit "$code"
