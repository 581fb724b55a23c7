/* The arena, and the C library's allocator on top of it. */
#include <stdlib.h>
#include <string.h>

#include "guest.h"

#ifndef ARENA_BYTES
#define ARENA_BYTES (128 << 10)
#endif

#define ALIGNMENT 16

static char arena[ARENA_BYTES] __attribute__((aligned(ALIGNMENT)));
static size_t used;

void arena_reset(void) {
    used = 0;
}

void *arena_take(size_t len) {
    size_t rounded = (len + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (rounded < len || rounded > ARENA_BYTES - used) __builtin_trap();
    char *at = arena + used;
    used += rounded;
    return at;
}

/* A block's length stands before it, for `realloc`. */
void *malloc(size_t len) {
    size_t *block = arena_take(len + ALIGNMENT);
    *block = len;
    return (char *)block + ALIGNMENT;
}

void *calloc(size_t count, size_t size) {
    size_t len;
    if (__builtin_mul_overflow(count, size, &len)) __builtin_trap();
    return memset(malloc(len), 0, len);
}

void *realloc(void *old, size_t len) {
    char *at = malloc(len);
    if (old) {
        size_t old_len = *(size_t *)((char *)old - ALIGNMENT);
        memcpy(at, old, old_len < len ? old_len : len);
    }
    return at;
}

void free(void *at) {
    (void)at;
}
