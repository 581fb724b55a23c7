/* JSON in place: a document is checked whole, once; from then on a value is a slice of it, found by walking.
 *
 * There is no tree and nothing to free. What comes from outside is trusted only after json_read has accepted it: UTF-8
 * without overlong forms or surrogates, nesting of at most JSON_DEPTH, nothing behind the value. Every walk stops at
 * its slice's end all the same. The writer appends to one growing buffer; when memory is out it traps, and the host
 * reports that. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH 64

typedef struct {
    const char *at;
    size_t len;
} json_slice;

typedef struct {
    char *at;
    size_t len, capacity;
} json_buffer;

/* The one value that `text` holds. False where it is not JSON. */
bool json_read(json_slice text, json_slice *value);

/* The member `name` of an object; the last, where there are several. False where there is none, or no object. */
bool json_member(json_slice object, const char *name, json_slice *value);

/* A string's own characters, unescaped, as UTF-8. An unpaired surrogate becomes U+FFFD. False where it is no string. */
bool json_string(json_slice value, json_slice *characters);

/* Whether a string's characters are these. */
bool slice_is(json_slice slice, const char *text);

/* The code point at `*at`, which moves behind it; U+FFFD, a byte on, for what is not UTF-8. `*at` is before `end`. */
uint32_t utf8_next(const char **at, const char *end);

/* Write a code point; how many bytes it took, at most 4. */
size_t utf8_write(char *at, uint32_t code);

void json_put(json_buffer *out, const char *raw);
void json_put_slice(json_buffer *out, json_slice raw);
void json_put_string(json_buffer *out, json_slice characters);
void json_put_count(json_buffer *out, uint64_t count);

/* `part / whole` in hundredths, half rounded up; 0 where there is no whole. */
void json_put_ratio(json_buffer *out, uint64_t part, uint64_t whole);

#endif
