#!/bin/sh
# tests/fuzz/run.sh [SECONDS] [TARGET...]: builds the fuzz targets under ASan and UBSan and runs each for SECONDS (10).
# Seeds are made anew; what the fuzzer learns stays in build/fuzz/corpus. A finding stays in build/fuzz and fails the run.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-10}
[ $# -gt 0 ] && shift
targets=${*:-"jpeg png webp exif row"}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
out=build/fuzz

cmake -S tests/fuzz -B "$out" -DCMAKE_CXX_COMPILER="${CLANGXX:-clang++}" >/dev/null
cmake --build "$out" -j "${JOBS:-2}" >/dev/null
rm -rf "$out/seeds"
"$python" -m tests.fuzz.make_seeds "$out/seeds"

for target in $targets; do
  mkdir -p "$out/corpus/$target"
  echo "fuzz_$target: $seconds s"
  if ! "$out/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=20000 \
    -artifact_prefix="$out/$target-" "$out/corpus/$target" "$out/seeds/$target" 2>"$out/$target.log"; then
    tail -60 "$out/$target.log" >&2
    exit 1
  fi
  grep -E "^Done" "$out/$target.log" || tail -1 "$out/$target.log"
done
