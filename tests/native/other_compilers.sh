#!/usr/bin/env bash
# Checks that need compilers few machines have; says which it skipped.
#   arm64: everything compiles for it without a warning (aarch64-linux-gnu-g++) and runs (qemu-aarch64-static)
#   libFuzzer: the parser under clang's fuzzer for SECONDS, 60 unless told (clang++)
# Usage: tests/native/other_compilers.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
flags=(-std=c++17 -DSKELKERN_LEVEL=baseline -DSKELKERN_EMULATED -Icsrc -Itests/native)
arm64=aarch64-linux-gnu-g++

if command -v $arm64 > /dev/null; then
  for source in csrc/*/*.cpp tests/native/*.cpp; do
    $arm64 "${flags[@]}" -fopenmp -O2 -ffp-contract=fast -Wall -Wextra -Werror -c "$source" \
      -o "$out/$(basename "$source").o"
  done
  for source in csrc/*/*.cu; do
    $arm64 "${flags[@]}" -O2 -ffp-contract=fast -Wall -Wextra -Werror -Wno-unknown-pragmas -x c++ -c "$source" \
      -o "$out/$(basename "$source").o"
  done
  echo "arm64: all files compile"
  if command -v qemu-aarch64-static > /dev/null; then
    $arm64 -static -fopenmp "$out"/*.o -o "$out/native" 2> /dev/null
    qemu-aarch64-static "$out/native"
  else
    echo "arm64: not run, qemu-aarch64-static is not installed"
  fi
else
  echo "arm64: skipped, $arm64 is not installed"
fi

if command -v clang++ > /dev/null; then
  # of the library only what the parser needs; serial, so that no OpenMP runtime is needed either
  clang++ "${flags[@]}" -O1 -g -fsanitize=fuzzer,address,undefined -DSKELKERN_LIBFUZZER -Wno-unknown-pragmas \
    tests/native/fuzz_ntu_skeleton.cpp csrc/ntu_skeleton/*.cpp csrc/common/{parallel,pages}.cpp -o "$out/fuzzer"
  "$out/fuzzer" -max_total_time="${1:-60}" -max_len=20000 -print_final_stats=1 -artifact_prefix="$out/" \
    2> "$out/log" || { tail -40 "$out/log"; exit 1; }
  grep -E "^(Done|stat::)" "$out/log"
else
  echo "libFuzzer: skipped, clang++ is not installed"
fi
