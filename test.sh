#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds everything, and runs the tests.
#
#   ./test.sh                  the default tests (everything but the labels slow, gpu and bench)
#   ./test.sh --slow           also the slow ones
#   ./test.sh --asan           the default tests under AddressSanitizer and UBSan
#   ./test.sh -R safetensors   further arguments go to ctest
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
preset=release
exclude='slow|gpu|bench'
while [ $# -gt 0 ]; do
  case $1 in
    -h|--help) sed -n '3,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --slow) exclude='gpu|bench' ;;
    --asan) preset=asan ;;
    *) break ;;
  esac
  shift
done
scripts/setup.sh
scripts/build.sh "$preset"
exec ctest --test-dir "build/$preset" --output-on-failure -LE "$exclude" "$@"
