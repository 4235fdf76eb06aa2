#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the fuzz targets and runs each of them for a while.
#
# usage: fuzz.sh SECONDS [TARGET...]      every target (or those named, with or without "fuzz_")
#        fuzz.sh --runs N [TARGET...]     N executions each instead of a time
#        fuzz.sh --list                   names of the targets
#
# Each starts from tests/fuzz/corpus/TARGET; what it learns is kept in build/fuzz/corpus/TARGET. An
# input that crashes, leaks or hangs is kept in build/fuzz/findings, and the exit code is 1.
# Environment: KINEMA_BUILD_LOCK=FILE makes builds wait for each other.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
build="$root/build/fuzz"

usage() {
  sed -n '3,11s/^# \{0,1\}//p' "$0"
}

locked() {
  if [[ -n "${KINEMA_BUILD_LOCK:-}" ]]; then
    flock "$KINEMA_BUILD_LOCK" "$@"
  else
    "$@"
  fi
}

case "${1:-}" in
  -h | --help)
    usage
    exit 0
    ;;
  --list)
    limit=(-list)
    ;;
  --runs)
    [[ "${2:-}" =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }
    limit=("-runs=$2")
    shift
    ;;
  *)
    [[ "${1:-}" =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }
    limit=("-max_total_time=$1")
    ;;
esac
shift

mkdir -p "$build"
(cd "$root" && locked cmake --preset fuzz) >"$build/configure.log" 2>&1 || {
  cat "$build/configure.log" >&2
  exit 1
}
mapfile -t targets < <(ninja -C "$build" -t targets all |
  sed -n 's/^fuzz_\([a-z0-9_]*\): phony$/\1/p' | sort -u)
if [[ "${limit[0]}" == -list ]]; then
  printf '%s\n' "${targets[@]}"
  exit 0
fi
if (($# > 0)); then
  targets=("${@#fuzz_}")
fi
locked ninja -C "$build" "${targets[@]/#/fuzz_}" >"$build/build.log" 2>&1 || {
  cat "$build/build.log" >&2
  exit 1
}

# The parsers throw for most inputs; these settings make a throw and its messages cheaper.
export ASAN_OPTIONS="detect_stack_use_after_return=0:malloc_context_size=3:quarantine_size_mb=8:\
${ASAN_OPTIONS:-}"

# Longest inputs, 4096 bytes where none is named: what is written by people is short, and its parsers
# are asked in more ways by many short texts than by few long ones.
declare -A longest=([prompt_cleaning]=128 [tokenizer]=1536 [tokenizer_regex]=128)

findings="$build/findings"
mkdir -p "$findings"
failed=0
printf '%-16s %12s %10s %9s %9s  %s\n' target executions exec/s coverage corpus findings
for target in "${targets[@]}"; do
  seeds="$root/tests/fuzz/corpus/$target"
  learned="$build/corpus/$target"
  log="$build/$target.log"
  mkdir -p "$learned"
  folders=("$learned")
  if [[ -d "$seeds" ]]; then
    folders+=("$seeds")
  fi
  binary="$(find "$build/tests" -name "fuzz_$target" -type f -perm -u+x | head -1)"
  status=0
  nice -n 10 "$binary" "${limit[@]}" "-max_len=${longest[$target]:-4096}" -timeout=10 \
    -rss_limit_mb=2048 -entropic_scale_per_exec_time=1 -print_final_stats=1 \
    "-artifact_prefix=$findings/$target-" "${folders[@]}" >"$log" 2>&1 ||
    status=$?
  stat() { sed -n "s/^stat::$1: *\([0-9]*\)$/\1/p" "$log" | tail -1; }
  executions="$(stat number_of_executed_units)"
  speed="$(stat average_exec_per_sec)"
  coverage="$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2 || true)"
  found=none
  if ((status != 0)); then
    failed=1
    found="$(grep -o 'Test unit written to .*' "$log" | cut -d' ' -f5 | head -1 || true)"
    found="${found:-exit code $status, see $log}"
  fi
  printf '%-16s %12s %10s %9s %9s  %s\n' "$target" "${executions:-?}" "${speed:-?}" \
    "${coverage:-?}" "$(find "$learned" -type f | wc -l)" "$found"
done
exit "$failed"
