/* The host as a C plugin sees it: two imports, and memory that the host asks for. */
#ifndef WARREN_H
#define WARREN_H

#include <stddef.h>
#include <stdint.h>

#define WARREN_IMPORT(name) __attribute__((import_module("warren_v1"), import_name(name)))
#define WARREN_EXPORT(name) __attribute__((export_name(name)))

enum { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

WARREN_IMPORT("log") void warren_log(int32_t level, const char *text, size_t len);

/* Calls a host function by its name. Arguments and answer are JSON, the answer packed as `address << 32 | length`. */
WARREN_IMPORT("host_call")
uint64_t warren_host_call(const char *name, size_t name_len, const char *args, size_t args_len);

static inline uint64_t warren_pack(const char *at, size_t len) {
    return (uint64_t)(uintptr_t)at << 32 | len;
}

#endif
