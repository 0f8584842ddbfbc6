#!/usr/bin/env bash
# What a newcomer waits for: both commands of the README in a fresh clone, with an empty cache; writes results/newcomer.json.
#
#   bash benchmarks/newcomer.sh
set -eu
cd "$(dirname "$0")/.."
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
git clone --quiet . "$FOLDER/clone"
export FACELATENT_CACHE="$FOLDER/cache"

timed() {
    local began=$SECONDS
    make -C "$FOLDER/clone" "$1" >"$FOLDER/log" 2>&1 || { tail -40 "$FOLDER/log" >&2; exit 1; }
    echo $((SECONDS - began))
}

first=$(timed demo)
again=$(timed demo)
tests=$(timed test)
summary=$(grep -E '[0-9]+ passed' "$FOLDER/log" | tail -1)
cores=$(nproc)
memory=$(awk '/MemTotal/ {printf "%.0f", $2 / 1e6}' /proc/meminfo)
printf '{"benchmark": "newcomer", "machine": "%s cores, %s GB", "demo_s": %s, "demo_again_s": %s, "test_s": %s, "tests": "%s"}\n' \
    "$cores" "$memory" "$first" "$again" "$tests" "$summary" | tee benchmarks/results/newcomer.json
