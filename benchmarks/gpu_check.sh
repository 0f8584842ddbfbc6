#!/usr/bin/env bash
# Everything that needs a CUDA GPU, in stages of less than ten minutes each; results go to benchmarks/results/.
#
#   bash benchmarks/gpu_check.sh              all stages
#   bash benchmarks/gpu_check.sh tests bench  some: packages, build, tests, sanitize, bench, train, adapt
#
# Needs torch with CUDA, nvcc and a C++ compiler. A stage that fails does not stop the next; the exit status tells.
# On a machine without a package index, carry the wheels and the asset cache along. On a machine with one:
#   python -m pip download -d .wheels --only-binary=:all: --python-version 3.12 --no-deps \
#       -r <(grep -v '^torch==' constraints.txt)
#   FACELATENT_CACHE=.cache-gpu facelatent assets pull all
# PYTHON names the interpreter that has torch with CUDA. OUT names another folder for the results.
set -u -o pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
RESULTS=${OUT:-benchmarks/results}
mkdir -p "$RESULTS"
[ -d .cache-gpu ] && export FACELATENT_CACHE="$PWD/.cache-gpu"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

facelatent() {
    "$PYTHON" -c 'from facelatent.cli import main; main()' "$@"
}

packages() {
    if [ -d .wheels ]; then
        "$PYTHON" -m pip install --quiet --no-index --no-deps .wheels/*.whl || return
    fi
    "$PYTHON" -c 'import torch; assert torch.cuda.is_available(), "no CUDA GPU"; print(torch.cuda.get_device_name())'
}

# Build times are of empty caches: --force compiles again.
build() {
    {
        facelatent kernels build --cpu --force &&
            facelatent kernels build --cuda --force &&
            facelatent kernels build --arch all --force &&
            facelatent kernels status &&
            facelatent doctor &&
            timeout 300 "$PYTHON" benchmarks/registers.py --name registers_gpu >/dev/null
    } 2>&1 | tee "$RESULTS/gpu_build.txt"
}

# File by file: a kernel that hangs, or an error that poisons the process's CUDA context, ends with its file.
tests() {
    local failed=0 file
    : >"$RESULTS/gpu_tests.txt"
    for file in $(grep -l 'mark\.gpu' tests/test_*.py); do
        echo "$file" | tee -a "$RESULTS/gpu_tests.txt"
        timeout 240 "$PYTHON" -m pytest -m gpu -q -o faulthandler_timeout=120 "$file" 2>&1 |
            tee -a "$RESULTS/gpu_tests.txt" || failed=1
    done
    return "$failed"
}

# compute-sanitizer slows kernels a hundredfold and does not work on every machine: small shapes, and a time limit.
sanitize() {
    local failed=0 tool program
    program=$(PATH="$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin" command -v compute-sanitizer) || {
        echo "no compute-sanitizer here" | tee "$RESULTS/gpu_sanitize.txt"
        return 0
    }
    : >"$RESULTS/gpu_sanitize.txt"
    for tool in memcheck racecheck synccheck initcheck; do
        echo "$tool" | tee -a "$RESULTS/gpu_sanitize.txt"
        PYTORCH_NO_CUDA_MEMORY_CACHING=1 FACELATENT_BACKEND=cuda timeout 140 \
            "$program" --tool "$tool" --error-exitcode 9 "$PYTHON" benchmarks/sanitize.py 2>&1 |
            tail -n 200 | tee -a "$RESULTS/gpu_sanitize.txt" || failed=1
    done
    return "$failed"
}

bench() {
    local failed=0
    timeout 280 "$PYTHON" benchmarks/ops.py --name ops_gpu || failed=1
    timeout 280 "$PYTHON" benchmarks/generator.py --name generator_gpu || failed=1
    timeout 280 "$PYTHON" benchmarks/gpu_synthesis.py || failed=1
    return "$failed"
}

# More pairs than two CPU cores draw in an hour, and the descent that they cannot afford. A run that the time limit stops
# goes on from its folder.
train() {
    local folder=${OUT:-.train-gpu} failed=0
    mkdir -p "$folder"
    timeout 570 "$PYTHON" -m facelatent train-encoder --device cuda --pairs 40960 --steps 4000 --batch 32 --save-every 500 \
        -o "$folder/mobile-ffhq-1024.encoder.safetensors" --work "$folder/encoder.work" || failed=1
    cp "$folder/encoder.work/log.jsonl" "$RESULTS/gpu_encoder.jsonl"
    return "$failed"
}

# How long adapting takes, and what the styles are worth, on artworks that are drawn here.
adapt() {
    local folder=${OUT:-.adapt-gpu} failed=0
    mkdir -p "$folder"
    "$PYTHON" benchmarks/artworks.py "$folder" || return
    timeout 240 "$PYTHON" benchmarks/adaptation_speed.py "$folder/woodblock.png" --name adaptation_speed_gpu || failed=1
    for art in woodblock pastel; do
        timeout 80 "$PYTHON" -m facelatent adapt "$folder/$art.png" -o "$folder/$art.safetensors" --device cuda || failed=1
        timeout 80 "$PYTHON" -m facelatent evaluate adaptation --style "$folder/$art.safetensors" --device cuda \
            --reference "$folder/$art.png" --out "$folder/$art" || failed=1
        cp "$folder/$art/adaptation.json" "$RESULTS/adaptation_${art}_gpu.json" || failed=1
    done
    return "$failed"
}

status=0
for stage in ${@:-packages build tests sanitize bench train adapt}; do
    echo "== $stage"
    "$stage" || {
        echo "== $stage failed"
        status=1
    }
done
[ "$RESULTS" = benchmarks/results ] || cp benchmarks/results/*_gpu.json "$RESULTS/" 2>/dev/null
exit "$status"
