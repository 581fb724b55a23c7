#include "json.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *at, *end;
} cursor;

static void skip_space(cursor *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) in->at++;
}

static bool accept(cursor *in, char c) {
    if (in->at == in->end || *in->at != c) return false;
    in->at++;
    return true;
}

static bool accept_word(cursor *in, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

static bool accept_digits(cursor *in) {
    const char *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') in->at++;
    return in->at > start;
}

static bool accept_number(cursor *in) {
    accept(in, '-');
    if (!accept(in, '0') && !accept_digits(in)) return false;
    if (accept(in, '.') && !accept_digits(in)) return false;
    if (accept(in, 'e') || accept(in, 'E')) {
        if (!accept(in, '+')) accept(in, '-');
        return accept_digits(in);
    }
    return true;
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(const char *at, const char *end) {
    int32_t unit = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

static bool is_utf8_char(const char *at, const char *end, size_t *len) {
    const char *next = at;
    uint32_t code = utf8_next(&next, end);
    *len = (size_t)(next - at);
    return code != 0xFFFD || *len == 3;
}

static bool accept_string(cursor *in) {
    if (!accept(in, '"')) return false;
    while (in->at < in->end) {
        unsigned char c = (unsigned char)*in->at;
        size_t len = 1;
        if (c == '"') {
            in->at++;
            return true;
        }
        if (c < 0x20) return false;
        if (c == '\\') {
            if (in->end - in->at < 2) return false;
            char escape = in->at[1];
            if (escape == 'u' ? hex4(in->at + 2, in->end) < 0 : !memchr("\"\\/bfnrt", escape, 8)) return false;
            len = escape == 'u' ? 6 : 2;
        } else if (c >= 0x80 && !is_utf8_char(in->at, in->end, &len)) {
            return false;
        }
        in->at += len;
    }
    return false;
}

static bool accept_value(cursor *in, int depth);

static bool accept_members(cursor *in, char close, int depth) {
    skip_space(in);
    if (accept(in, close)) return true;
    do {
        if (close == '}') {
            skip_space(in);
            if (!accept_string(in)) return false;
            skip_space(in);
            if (!accept(in, ':')) return false;
        }
        if (!accept_value(in, depth)) return false;
        skip_space(in);
    } while (accept(in, ','));
    return accept(in, close);
}

static bool accept_value(cursor *in, int depth) {
    skip_space(in);
    if (in->at == in->end || depth == 0) return false;
    switch (*in->at) {
        case '{': in->at++; return accept_members(in, '}', depth - 1);
        case '[': in->at++; return accept_members(in, ']', depth - 1);
        case '"': return accept_string(in);
        case 't': return accept_word(in, "true");
        case 'f': return accept_word(in, "false");
        case 'n': return accept_word(in, "null");
        default: return accept_number(in);
    }
}

/* The value under the cursor, which moves behind it. */
static bool take(cursor *in, json_slice *value) {
    skip_space(in);
    value->at = in->at;
    if (!accept_value(in, JSON_DEPTH)) return false;
    value->len = (size_t)(in->at - value->at);
    return true;
}

bool json_read(json_slice text, json_slice *value) {
    cursor in = {text.at, text.at + text.len};
    if (!take(&in, value)) return false;
    skip_space(&in);
    return in.at == in.end;
}

bool json_member(json_slice object, const char *name, json_slice *value) {
    cursor in = {object.at, object.at + object.len};
    bool found = false;
    if (!accept(&in, '{')) return false;
    do {
        json_slice key, characters, member;
        if (!take(&in, &key) || !json_string(key, &characters)) break;
        skip_space(&in);
        if (!accept(&in, ':') || !take(&in, &member)) break;
        if (slice_is(characters, name)) {
            *value = member;
            found = true;
        }
        skip_space(&in);
    } while (accept(&in, ','));
    return found;
}

/* The code point that a \u escape spells, with its second half where it is a surrogate; `*at` is behind the `u`. */
static uint32_t unescape_unicode(const char **at, const char *end) {
    int32_t unit = hex4(*at, end);
    *at += 4;
    if (unit < 0xD800 || unit > 0xDFFF) return (uint32_t)unit;
    if (unit < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        int32_t low = hex4(*at + 2, end);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *at += 6;
            return 0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
        }
    }
    return 0xFFFD;
}

static char unescape(char escape) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    const char *at = memchr(from, escape, sizeof from - 1);
    return at ? to[at - from] : escape;
}

bool json_string(json_slice value, json_slice *characters) {
    if (value.len < 2 || value.at[0] != '"') return false;
    const char *at = value.at + 1, *end = value.at + value.len - 1;
    characters->at = at;
    characters->len = (size_t)(end - at);
    if (!memchr(at, '\\', characters->len)) return true;

    /* No escape is shorter than what it stands for. */
    char *copy = malloc(characters->len);
    if (!copy) __builtin_trap();
    size_t len = 0;
    while (at < end) {
        if (*at != '\\') {
            copy[len++] = *at++;
            continue;
        }
        char escape = at[1];
        at += 2;
        if (escape == 'u') {
            len += utf8_write(copy + len, unescape_unicode(&at, end));
        } else {
            copy[len++] = unescape(escape);
        }
    }
    characters->at = copy;
    characters->len = len;
    return true;
}

bool slice_is(json_slice slice, const char *text) {
    return slice.len == strlen(text) && memcmp(slice.at, text, slice.len) == 0;
}

uint32_t utf8_next(const char **at, const char *end) {
    const unsigned char *in = (const unsigned char *)*at;
    size_t left = (size_t)(end - *at);
    size_t len = in[0] < 0x80 ? 1 : in[0] < 0xC2 ? 0 : in[0] < 0xE0 ? 2 : in[0] < 0xF0 ? 3 : in[0] < 0xF5 ? 4 : 0;
    *at += 1;
    if (len == 1) return in[0];
    if (len == 0 || len > left) return 0xFFFD;
    uint32_t code = in[0] & (0x7F >> len);
    for (size_t i = 1; i < len; i++) {
        if ((in[i] & 0xC0) != 0x80) return 0xFFFD;
        code = code << 6 | (in[i] & 0x3F);
    }
    bool overlong = (len == 3 && code < 0x800) || (len == 4 && code < 0x10000);
    if (overlong || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return 0xFFFD;
    *at += len - 1;
    return code;
}

size_t utf8_write(char *at, uint32_t code) {
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (len == 1) {
        at[0] = (char)code;
        return 1;
    }
    for (size_t i = len - 1; i > 0; i--, code >>= 6) at[i] = (char)(0x80 | (code & 0x3F));
    at[0] = (char)((0xF00 >> len & 0xF0) | code);
    return len;
}

/* Room for `more` bytes at the buffer's end. */
static char *reserve(json_buffer *out, size_t more) {
    if (out->capacity - out->len < more) {
        size_t capacity = out->len + more;
        if (capacity < more || capacity > SIZE_MAX / 2) __builtin_trap();
        out->capacity = capacity * 2;
        out->at = realloc(out->at, out->capacity);
        if (!out->at) __builtin_trap();
    }
    return out->at + out->len;
}

void json_put_slice(json_buffer *out, json_slice raw) {
    memcpy(reserve(out, raw.len), raw.at, raw.len);
    out->len += raw.len;
}

void json_put(json_buffer *out, const char *raw) {
    json_put_slice(out, (json_slice){raw, strlen(raw)});
}

void json_put_string(json_buffer *out, json_slice characters) {
    static const char hex[] = "0123456789abcdef";
    json_put(out, "\"");
    for (size_t i = 0; i < characters.len; i++) {
        unsigned char c = (unsigned char)characters.at[i];
        char *at = reserve(out, 6);
        if (c == '"' || c == '\\') {
            at[0] = '\\';
            at[1] = (char)c;
            out->len += 2;
        } else if (c < 0x20) {
            memcpy(at, "\\u00", 4);
            at[4] = hex[c >> 4];
            at[5] = hex[c & 15];
            out->len += 6;
        } else {
            at[0] = (char)c;
            out->len += 1;
        }
    }
    json_put(out, "\"");
}

void json_put_count(json_buffer *out, uint64_t count) {
    char digits[20];
    size_t first = sizeof digits;
    do digits[--first] = (char)('0' + count % 10);
    while (count /= 10);
    json_put_slice(out, (json_slice){digits + first, sizeof digits - first});
}

void json_put_ratio(json_buffer *out, uint64_t part, uint64_t whole) {
    uint64_t hundredths = whole ? (part * 200 / whole + 1) / 2 : 0;
    json_put_count(out, hundredths / 100);
    json_put(out, hundredths % 100 < 10 ? ".0" : ".");
    json_put_count(out, hundredths % 100);
}
