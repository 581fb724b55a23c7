#!/bin/sh
# Build the guests of `make bench-sandbox` anew, with the Zig of `pip install ziglang`: PYTHON=... build.sh
# They are committed, so that the benchmark needs no compiler for them.
set -eu
cd "$(dirname "$0")"
words=../../../plugins/examples/word_stats

build() {
    out=$1
    shift
    "${PYTHON:-python3}" -m ziglang cc -target wasm32-wasi -mexec-model=reactor -std=c11 -O2 -s -Wall -Wextra -Werror \
        -fno-builtin-malloc -Wl,-z,stack-size=65536 -I. -I$words -o "$out" arena.c "$@"
}

build echo_extism.wasm abi_extism.c echo.c
build words.wasm abi_core.c words.c $words/words.c $words/letters.c $words/json.c
build words_extism.wasm abi_extism.c words.c $words/words.c $words/letters.c $words/json.c
build digest.wasm -DARENA_BYTES=0x110000 abi_core.c digest.c sha256.c

chmod 644 ./*.wasm
