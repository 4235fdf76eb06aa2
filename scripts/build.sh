#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds with one progress line.
#
#   scripts/build.sh PRESET [TARGET...]     for example: scripts/build.sh release kinema
#
# The whole output goes to build/PRESET/build.log; it is shown when something fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --help ] || [ -z "${1:-}" ]; then
  sed -n '3,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  exit 0
fi
preset=$1
shift
dir=build/$preset
log=$dir/build.log
mkdir -p "$dir"

fail() {
  grep -E -A12 'error|FAILED|Error' "$log" | head -n 60 >&2 || tail -n 40 "$log" >&2
  echo "build: failed (whole log: $log)" >&2
  exit 1
}

: >"$log"
if [ ! -e "$dir/build.ninja" ]; then
  echo "build: configuring ($preset)" >&2
  cmake --preset "$preset" >>"$log" 2>&1 || fail
fi

# One line that is redrawn on a terminal; elsewhere a line every 25 steps.
show() {
  local line last=0 step
  while IFS= read -r line; do
    printf '%s\n' "$line" >>"$log"
    case $line in
      '['[0-9]*/[0-9]*']'*)
        if [ -t 2 ]; then
          printf '\r\033[K%.*s' "$(( ${COLUMNS:-80} - 1 ))" "build: $line" >&2
        else
          step=${line#[}
          step=${step%%/*}
          if [ $((step - last)) -ge 25 ]; then
            last=$step
            echo "build: ${line%%]*}]" >&2
          fi
        fi ;;
    esac
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

set +e
ninja -C "$dir" "$@" 2>&1 | show
status=${PIPESTATUS[0]}
set -e
[ "$status" = 0 ] || fail
