/* Warren's ABI `core`. */
#include "guest.h"

__attribute__((export_name("allocate"))) void *allocate(size_t len) {
    arena_reset();
    return arena_take(len);
}

__attribute__((export_name("handle_request"))) uint64_t handle_request(const char *at, size_t len) {
    bytes answered = answer((bytes){at, len});
    return (uint64_t)(uintptr_t)answered.at << 32 | answered.len;
}
