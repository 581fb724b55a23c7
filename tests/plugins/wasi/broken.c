// Fails three calls deep, and has each frame's line in its DWARF. Built in this folder, with N = 4 and 5:
//   zig cc -target wasm32-freestanding -nostdlib -Wl,--no-entry -Wl,-z,stack-size=65536 -O1 -fno-inline \
//       -gdwarf-N -fdebug-compilation-dir=. -ffile-prefix-map=$PWD=. -o broken-N.wasm broken.c

static char memory[4096];

static int first_digit(const char *at, int length) {
    for (int i = 0; i < length; i++)
        if (at[i] >= '0' && at[i] <= '9')
            return at[i] - '0';
    __builtin_trap();
}

static int parse(const char *at, int length) {
    return first_digit(at, length) + 1;
}

__attribute__((export_name("allocate"))) char *allocate(int length) {
    if (length > (int)sizeof memory)
        return (char *)(__builtin_wasm_memory_grow(0, 1 + length / 65536) << 16);
    return memory;
}

__attribute__((export_name("handle_request"))) long long handle_request(const char *at, int length) {
    return parse(at, length) + 1;
}
