#!/bin/sh
# tests/fuzz/run.sh [SECONDS] [TARGET...]: builds the fuzz targets under ASan and UBSan and runs each for SECONDS (10),
# $JOBS (2) at a time. Seeds are made anew; what the fuzzer learns stays in build/fuzz/corpus. A finding stays in
# build/fuzz and fails the run.
set -eu
cd "$(dirname "$0")/../.."
export seconds="${1:-10}" out=build/fuzz
[ $# -gt 0 ] && shift
targets=${*:-"jpeg jpeg_structure jpeg_row row png webp exif shards offsets"}
jobs=${JOBS:-2}
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3

cmake -S tests/fuzz -B "$out" -DCMAKE_CXX_COMPILER="${CLANGXX:-clang++}" >/dev/null
cmake --build "$out" -j "$jobs" >/dev/null
rm -rf "$out/seeds"
"$python" -m tests.fuzz.make_seeds "$out/seeds"

# shellcheck disable=SC2016  # expanded by the inner shell, $1 being the target
printf '%s\n' $targets | xargs -P "$jobs" -n 1 sh -c '
  mkdir -p "$out/corpus/$1"
  case $1 in jpeg_structure) longest=200000 ;; *) longest=20000 ;; esac
  if "$out/fuzz_$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len="$longest" \
    -artifact_prefix="$out/$1-" "$out/corpus/$1" "$out/seeds/$1" 2>"$out/$1.log"; then
    echo "fuzz_$1: $(grep "^Done" "$out/$1.log")"
  else
    echo "fuzz_$1: a finding; see $out/$1-*" >&2
    tail -60 "$out/$1.log" >&2
    exit 1
  fi' fuzz
