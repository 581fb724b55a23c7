/* Extism's ABI: request and answer lie in a memory of Extism's own, and are copied eight bytes at a time, as its plugin
 * development kits do it. */
#include <string.h>

#include "guest.h"

#define EXTISM(name) __attribute__((import_module("extism:host/env"), import_name(#name)))

EXTISM(input_length) uint64_t input_length(void);
EXTISM(input_load_u8) uint32_t input_load_u8(uint64_t offset);
EXTISM(input_load_u64) uint64_t input_load_u64(uint64_t offset);
EXTISM(alloc) uint64_t extism_alloc(uint64_t len);
EXTISM(store_u8) void store_u8(uint64_t at, uint32_t value);
EXTISM(store_u64) void store_u64(uint64_t at, uint64_t value);
EXTISM(output_set) void output_set(uint64_t at, uint64_t len);

__attribute__((export_name("handle_request"))) int32_t handle_request(void) {
    uint64_t word;
    arena_reset();
    size_t len = input_length(), done = 0;
    char *request = arena_take(len);
    for (; len - done >= sizeof word; done += sizeof word) {
        word = input_load_u64(done);
        memcpy(request + done, &word, sizeof word);
    }
    for (; done < len; done++) request[done] = (char)input_load_u8(done);

    bytes answered = answer((bytes){request, len});
    uint64_t output = extism_alloc(answered.len);
    for (done = 0; answered.len - done >= sizeof word; done += sizeof word) {
        memcpy(&word, answered.at + done, sizeof word);
        store_u64(output + done, word);
    }
    for (; done < answered.len; done++) store_u8(output + done, (unsigned char)answered.at[done]);
    output_set(output, answered.len);
    return 0;
}
