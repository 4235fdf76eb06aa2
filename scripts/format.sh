#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats the C++ and CUDA files that git tracks with clang-format 19 and the .clang-format of the
# repository.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/format.sh [--check] [FILE...]
  Formats the tracked C++ and CUDA files (or FILE...) in place.
  --check   change nothing; list the places that differ and exit 1 if there are any
  The program is clang-format-19, or the one named by CLANG_FORMAT; other versions are refused,
  because they format differently.
TEXT
}

check=0
files=()
for argument in "$@"; do
  case "$argument" in
    -h | --help)
      usage
      exit 0
      ;;
    --check) check=1 ;;
    -*)
      echo "format.sh: unknown option $argument" >&2
      usage >&2
      exit 2
      ;;
    *.h | *.cpp | *.cu | *.cuh) files+=("$(realpath -- "$argument")") ;;
    *) echo "format.sh: left alone, not C++ or CUDA: $argument" >&2 ;;
  esac
done

cd "$(dirname "$0")/.."
program="${CLANG_FORMAT:-}"
if [[ -z "$program" ]]; then
  program="$(command -v clang-format-19 || command -v clang-format || true)"
fi
version="$("${program:-false}" --version 2>/dev/null | grep -oE '[0-9]+' | head -n 1 || true)"
if [[ "$version" != 19 ]]; then
  echo "format.sh: needs clang-format 19, found ${program:-none} ${version:+(version $version)};" \
    "install clang-format-19 or set CLANG_FORMAT" >&2
  exit 2
fi

if [[ ${#files[@]} -eq 0 ]]; then
  while IFS= read -r -d '' file; do
    if [[ -f "$file" ]]; then
      files+=("$file")
    fi
  done < <(git ls-files -z -- '*.h' '*.cpp' '*.cu' '*.cuh')
fi
if [[ ${#files[@]} -eq 0 ]]; then
  echo "format.sh: no files" >&2
  exit 2
fi

options=(-i)
if [[ $check -eq 1 ]]; then
  options=(--dry-run --Werror)
fi
if ! printf '%s\0' "${files[@]}" |
  xargs -0 -n 20 -P "$(nproc)" "$program" --style=file "${options[@]}"; then
  echo "format.sh: ${#files[@]} files checked, not all are formatted; run scripts/format.sh" >&2
  exit 1
fi
echo "format.sh: ${#files[@]} files are formatted" >&2
