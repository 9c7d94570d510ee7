#!/usr/bin/env bash
# Checks and times the GPU kernels on a machine with an NVIDIA GPU; no network is needed.
#
#   scripts/gpu_check.sh [--dry-run] [PART...]
#
# Parts, all of them in this order by default, each able to run alone and stopped after 8 minutes:
#   versions   driver and runtimes; refuses a driver that is too old
#   build      pip install --no-build-isolation --no-deps -e . with the CUDA kernels
#   sanitizer  every CUDA kernel once under compute-sanitizer: memcheck, racecheck, synccheck
#   gate       the tests of every op over its GPU implementations
#   timing     races of the ops whose tests have passed
#   steps      training steps of encoders and methods
#   report     benchmarks/results/gpu-DEVICE.json, and its page in docs/
# --dry-run runs everything on the CPU at small sizes and leaves its report in build/gpu_check/.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
work=build/gpu_check
dry=()
parts=()
for argument in "$@"; do
  if [[ $argument == --dry-run ]]; then dry=(--dry-run); else parts+=("$argument"); fi
done
[[ ${#parts[@]} -gt 0 ]] || parts=(versions build sanitizer gate timing steps report)
mkdir -p "$work"

within_limit() { timeout --kill-after=10 480 "$@"; }

versions() { within_limit "$python" -m gpu.versions "${dry[@]}"; }

build() {
  if [[ ${#dry[@]} -gt 0 ]]; then
    echo "not in a dry run: SKELKERN_CUDA=1 pip install --no-build-isolation --no-deps -e ."
    return
  fi
  SKELKERN_CUDA=1 within_limit "$python" -m pip install -q --no-build-isolation --no-deps -e .
}

sanitizer() {
  if [[ ${#dry[@]} -gt 0 ]]; then
    within_limit "$python" -m gpu.cuda_calls --dry-run
    return
  fi
  if ! command -v compute-sanitizer > "$work/sanitizer.txt"; then
    echo "compute-sanitizer is not installed: its part is left out"
    return
  fi
  for tool in memcheck racecheck synccheck; do
    echo "compute-sanitizer --tool $tool"
    timeout --kill-after=10 150 compute-sanitizer --tool "$tool" --error-exitcode 9 "$python" -m gpu.cuda_calls
  done
}

gate() { within_limit "$python" -m gpu.gate "${dry[@]}"; }
timing() { within_limit "$python" -m gpu.timing "${dry[@]}"; }
steps() { within_limit "$python" -m gpu.steps "${dry[@]}"; }

report() {
  local file=$work/dry-run.json page=$work/dry-run.md name
  if [[ ${#dry[@]} -eq 0 ]]; then
    name=$("$python" -c 'import torch; print(torch.cuda.get_device_name().lower().replace(" ", "-"))')
    file=benchmarks/results/gpu-$name.json page=docs/gpu_results.md
  fi
  within_limit "$python" -m gpu.report gather "$file" "${dry[@]}"
  within_limit "$python" -m gpu.report render "$file" "$page"
  echo "$file, $page"
}

failed=()
for part in "${parts[@]}"; do
  case $part in
    versions | build | sanitizer | gate | timing | steps | report) ;;
    *) echo "unknown part: $part" >&2; exit 2 ;;
  esac
  echo "== $part"
  # what is too old or not built cannot be measured; any other part that fails leaves the others to run
  if ! "$part"; then
    failed+=("$part")
    [[ $part != versions && $part != build ]] || break
  fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
