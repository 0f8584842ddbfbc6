#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in stages of less than ten minutes each; results go to benchmarks/results/.
#
#   bash benchmarks/gpu_check.sh            all stages
#   bash benchmarks/gpu_check.sh tests      one stage: packages, tests, bench
#
# On a machine without a package index, carry the wheels and the asset cache along. On a machine with one:
#   python -m pip download -d .wheels --only-binary=:all: --python-version 3.12 --no-deps \
#       -r <(grep -v '^torch==' constraints.txt)
#   FACELATENT_CACHE=.cache-gpu facelatent assets pull all
# PYTHON names the interpreter that has torch with CUDA.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
RESULTS=${OUT:-benchmarks/results}
mkdir -p "$RESULTS"
[ -d .cache-gpu ] && export FACELATENT_CACHE="$PWD/.cache-gpu"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

packages() {
    if [ -d .wheels ]; then
        "$PYTHON" -m pip install --quiet --no-index --no-deps .wheels/*.whl
    fi
    "$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no CUDA GPU"; print(torch.cuda.get_device_name())'
}

tests() {
    "$PYTHON" -m pytest -m gpu -q 2>&1 | tee "$RESULTS/gpu_tests.txt"
}

bench() {
    "$PYTHON" benchmarks/generator.py --name generator_gpu
    [ "$RESULTS" = benchmarks/results ] || cp benchmarks/results/*_gpu.json "$RESULTS/"
}

for stage in "${@:-packages tests bench}"; do
    for name in $stage; do
        "$name"
    done
done
