#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what kinema needs to build, and nothing else. Idempotent; quick when nothing is missing.
#
#   scripts/setup.sh            install what is missing
#   scripts/setup.sh --check    only say what is missing (exit 1 if anything is)
#
# Debian packages come from apt (needs root or sudo, and only when one is missing). LibTorch 2.11.0
# comes out of the PyPI wheel into .deps/ of this checkout; without an NVIDIA card only its CPU part and
# the two small CUDA run-time libraries that libtorch_cpu.so links are fetched. An existing LibTorch is
# used instead when KINEMA_TORCH_DIR or CMAKE_PREFIX_PATH names one.
#   KINEMA_GPU=0|1   overrides the search for a card
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  -h|--help) sed -n '3,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
  ""|--check) ;;
  *) echo "setup: unknown argument '$1' (see --help)" >&2; exit 2 ;;
esac
check_only=${1:-}

torch_version=2.11.0
cuda_runtime_version=13.0.96
cuda_cupti_version=13.0.85

packages=(
  # compiler and build
  clang-19 libclang-rt-19-dev lld-19 clang-format-19 g++ cmake ninja-build ccache pkg-config git
  # base libraries
  nlohmann-json3-dev libfmt-dev libspdlog-dev libcli11-dev libtomlplusplus-dev libarchive-dev
  # media
  libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libavfilter-dev libstb-dev
  # text
  libicu-dev
  # tests and benchmarks
  libgtest-dev libgmock-dev libbenchmark-dev
  # for the set-up itself
  python3 unzip ca-certificates
)

fail() { echo "setup: $*" >&2; exit 4; }

log=.deps/setup.log
mkdir -p .deps

missing_packages() {
  dpkg-query -W -f='${Package} ${Status}\n' "${packages[@]}" 2>/dev/null |
    awk '/install ok installed/ {print $1}' | sort -u >.deps/installed.txt || true
  printf '%s\n' "${packages[@]}" | sort -u | comm -23 - .deps/installed.txt
  rm -f .deps/installed.txt
}

install_packages() {
  local missing
  command -v dpkg-query >/dev/null || {
    echo "setup: this is not Debian; make sure that these are there: ${packages[*]}" >&2
    return 0
  }
  missing=$(missing_packages | tr '\n' ' ')
  [ -z "${missing// /}" ] && return 0
  if [ -n "$check_only" ]; then
    echo "missing Debian packages: $missing"
    return 1
  fi
  local sudo=""
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "these Debian packages are missing and only root can install them: $missing"
    sudo=sudo
  fi
  echo "setup: installing Debian packages: $missing" >&2
  { $sudo apt-get update -q &&
      $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
  } >>"$log" 2>&1 </dev/null || { tail -n 15 "$log" >&2; fail "apt-get failed (whole log: $log)"; }
}

has_card() {
  case "${KINEMA_GPU:-}" in
    0) return 1 ;;
    1) return 0 ;;
  esac
  [ -e /dev/nvidia0 ]
}

torch_given() {
  local dir
  for dir in "${KINEMA_TORCH_DIR:-}" $(echo "${CMAKE_PREFIX_PATH:-}" | tr ':;' '  '); do
    [ -n "$dir" ] && [ -e "$dir/lib/libtorch_cpu.so" ] && return 0
  done
  return 1
}

pip_command() {
  if python3 -m pip --version >/dev/null 2>&1; then
    echo "python3 -m pip"
    return
  fi
  packages=(python3-pip)
  install_packages
  echo "python3 -m pip"
}

install_torch() {
  torch_given && return 0
  local flavour=cpu
  has_card && flavour=cuda
  local stamp=.deps/site-packages/kinema-torch.txt
  local wanted="torch $torch_version $flavour"
  # The CUDA flavour serves a build without a card, too.
  if [ -e "$stamp" ] && grep -qE "^torch $torch_version ($flavour|cuda)$" "$stamp"; then
    return 0
  fi
  if [ -n "$check_only" ]; then
    echo "missing LibTorch $torch_version ($flavour)"
    return 1
  fi
  local free_mb
  free_mb=$(df -Pm .deps | awk 'NR == 2 {print $4}')
  [ "$free_mb" -gt 3000 ] || fail "LibTorch needs 3 GB of disk here for a moment, $free_mb MB are free"
  local pip machine
  pip=$(pip_command)
  machine=$(uname -m)
  echo "setup: fetching LibTorch $torch_version ($flavour, 531 MB) from PyPI" >&2
  rm -rf .deps/wheels .deps/site-packages.part
  mkdir -p .deps/wheels .deps/site-packages.part
  local wheel_args=(--no-deps --only-binary=:all: --implementation cp --python-version 3.11
                    --platform "manylinux_2_28_$machine" --platform "manylinux_2_25_$machine"
                    --platform "manylinux2014_$machine" --platform "manylinux_2_17_$machine")
  $pip download -q --disable-pip-version-check "${wheel_args[@]}" -d .deps/wheels \
      "torch==$torch_version" "nvidia-cuda-runtime==$cuda_runtime_version" \
      "nvidia-cuda-cupti==$cuda_cupti_version" >>"$log" 2>&1 </dev/null ||
    { tail -n 15 "$log" >&2; fail "the download from PyPI failed (whole log: $log)"; }
  echo "setup: unpacking" >&2
  local site=.deps/site-packages.part
  if [ "$flavour" = cuda ]; then
    unzip -q -o .deps/wheels/torch-*.whl 'torch/include/*' 'torch/lib/*' 'torch-*/*' -d $site
    unzip -p .deps/wheels/torch-*.whl "torch-$torch_version.dist-info/METADATA" |
      sed -n 's/^Requires-Dist: \(\(nvidia-\|cuda-toolkit\)[^;]*\).*/\1/p' >.deps/cuda-requirements.txt
    $pip install -q --disable-pip-version-check --only-binary=:all: --target $site --upgrade \
        -r .deps/cuda-requirements.txt >>"$log" 2>&1 </dev/null ||
      { tail -n 15 "$log" >&2; fail "the CUDA libraries could not be fetched (whole log: $log)"; }
  else
    unzip -q -o .deps/wheels/torch-*.whl 'torch/include/*' torch/lib/libtorch_cpu.so \
      torch/lib/libc10.so 'torch/lib/libgomp*' 'torch-*/*' -d $site
    unzip -q -o .deps/wheels/nvidia_cuda_runtime-*.whl '*/libcudart.so*' '*/License*' -d $site
    unzip -q -o .deps/wheels/nvidia_cuda_cupti-*.whl '*/libcupti.so*' '*/License*' -d $site
  fi
  echo "$wanted" >$site/kinema-torch.txt
  rm -rf .deps/site-packages .deps/wheels
  mv $site .deps/site-packages
}

status=0
install_packages || status=1
install_torch || status=1
exit $status
