/* Warren plugins in C and C++: functions by action, JSON in and out, and no pointer to pack.
 *
 *     static bool greet(warren_text data, warren_out *out) {
 *         warren_text name;
 *         if (!warren_get_string(data, "name", &name)) return warren_fail(out, "there is nobody to greet");
 *         warren_put(out, "{\"greeting\":%q}", name);
 *         return true;
 *     }
 *
 *     WARREN_PLUGIN({"greet", greet})
 *
 * A function gets the request's `data` and writes its answer to `out`: JSON, and true; or why it failed, and false.
 * WARREN_PLUGIN stands once, in one source file; any file may include this header.
 *
 * JSON is read in place: the request is checked whole, once (UTF-8, nesting of at most WARREN_DEPTH, nothing behind the
 * value); from then on a value is a piece of its text, found by walking. There is no tree, and nothing to free: an
 * instance serves one request and is gone. When memory is out the plugin traps, and the host reports that. */
#ifndef WARREN_H
#define WARREN_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#define WARREN_C extern "C"
#else
#define WARREN_C
#endif

#define WARREN_IMPORT(name) WARREN_C __attribute__((import_module("warren_v1"), import_name(name)))
#define WARREN_EXPORT(name) WARREN_C __attribute__((export_name(name)))
#define WARREN_FN static __attribute__((unused))

#define WARREN_DEPTH 64

/* Some text, without a zero at its end: characters as UTF-8, or a piece of JSON. */
typedef struct {
    const char *at;
    size_t len;
} warren_text;

/* What is being written; `{0}` is empty. */
typedef struct {
    char *at;
    size_t len, capacity;
} warren_out;

typedef bool (*warren_function)(warren_text data, warren_out *out);

typedef struct {
    const char *action;
    warren_function function;
} warren_action;

typedef enum { WARREN_TRACE, WARREN_DEBUG, WARREN_INFO, WARREN_WARN, WARREN_ERROR } warren_level;

/* text ***************************************************************************************************************/

WARREN_FN warren_text warren_slice(const char *at, size_t len) {
    warren_text text;
    text.at = at;
    text.len = len;
    return text;
}

WARREN_FN warren_text warren_str(const char *text) {
    return warren_slice(text, strlen(text));
}

WARREN_FN bool warren_is(warren_text text, const char *other) {
    return text.len == strlen(other) && memcmp(text.at, other, text.len) == 0;
}

WARREN_FN void *warren_allocate(size_t len) {
    void *at = malloc(len ? len : 1);
    if (!at) __builtin_trap();
    return at;
}

/* writing ************************************************************************************************************/

WARREN_FN warren_text warren_written(const warren_out *out) {
    return warren_slice(out->at, out->len);
}

WARREN_FN void warren_put_text(warren_out *out, warren_text text) {
    if (text.len == 0) return;
    if (out->capacity - out->len < text.len) {
        size_t capacity = out->len + text.len;
        if (capacity < text.len || capacity > SIZE_MAX / 2) __builtin_trap();
        out->capacity = capacity * 2;
        out->at = (char *)realloc(out->at, out->capacity);
        if (!out->at) __builtin_trap();
    }
    memcpy(out->at + out->len, text.at, text.len);
    out->len += text.len;
}

/* Characters as they stand within a JSON string. */
WARREN_FN void warren_put_escaped(warren_out *out, warren_text text) {
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        char escape[6] = {'\\', (char)c, '0', '0', hex[c >> 4], hex[c & 15]};
        if (c < 0x20) escape[1] = 'u';
        warren_put_text(out, warren_slice(text.at + from, i - from));
        warren_put_text(out, warren_slice(escape, c < 0x20 ? 6 : 2));
        from = i + 1;
    }
    warren_put_text(out, warren_slice(text.at + from, text.len - from));
}

WARREN_FN void warren_put_integer(warren_out *out, int64_t number) {
    char digits[20];
    size_t first = sizeof digits;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do digits[--first] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0) digits[--first] = '-';
    warren_put_text(out, warren_slice(digits + first, sizeof digits - first));
}

WARREN_FN void warren_vput(warren_out *out, const char *format, va_list values) {
    for (const char *at = format; *at; at++) {
        const char *next = strchr(at, '%');
        warren_put_text(out, warren_slice(at, next ? (size_t)(next - at) : strlen(at)));
        if (!next) return;
        at = next + 1;
        switch (*at) {
            case 's': warren_put_text(out, warren_str(va_arg(values, const char *))); break;
            case 't': warren_put_text(out, va_arg(values, warren_text)); break;
            case 'e': warren_put_escaped(out, va_arg(values, warren_text)); break;
            case 'q':
                warren_put_text(out, warren_str("\""));
                warren_put_escaped(out, va_arg(values, warren_text));
                warren_put_text(out, warren_str("\""));
                break;
            case 'd': warren_put_integer(out, va_arg(values, int)); break;
            case 'l': warren_put_integer(out, va_arg(values, int64_t)); break;
            case 'b': warren_put_text(out, warren_str(va_arg(values, int) ? "true" : "false")); break;
            case '%': warren_put_text(out, warren_str("%")); break;
            default: __builtin_trap();
        }
    }
}

/* Write what `format` says, with a value for each
 *     %t  a warren_text, as it is: a piece of JSON, say      %s  a const char *, as it is
 *     %q  a warren_text, as a JSON string                    %e  the same without the quotes, within a string
 *     %d  an int          %l  an int64_t                     %b  a bool          %%  a % */
WARREN_FN void warren_put(warren_out *out, const char *format, ...) {
    va_list values;
    va_start(values, format);
    warren_vput(out, format, values);
    va_end(values);
}

/* Say why the request fails, as with warren_put, in place of what is written. Always false, to be returned. */
WARREN_FN bool warren_fail(warren_out *out, const char *format, ...) {
    va_list values;
    out->len = 0;
    va_start(values, format);
    warren_vput(out, format, values);
    va_end(values);
    return false;
}

/* reading ************************************************************************************************************/

typedef struct {
    const char *at, *end;
} warren_cursor;

WARREN_FN void warren_skip_space(warren_cursor *in) {
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) in->at++;
}

WARREN_FN bool warren_accept(warren_cursor *in, char c) {
    if (in->at == in->end || *in->at != c) return false;
    in->at++;
    return true;
}

WARREN_FN bool warren_accept_word(warren_cursor *in, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(in->end - in->at) < len || memcmp(in->at, word, len) != 0) return false;
    in->at += len;
    return true;
}

WARREN_FN bool warren_accept_digits(warren_cursor *in) {
    const char *start = in->at;
    while (in->at < in->end && *in->at >= '0' && *in->at <= '9') in->at++;
    return in->at > start;
}

WARREN_FN bool warren_accept_number(warren_cursor *in) {
    warren_accept(in, '-');
    if (!warren_accept(in, '0') && !warren_accept_digits(in)) return false;
    if (warren_accept(in, '.') && !warren_accept_digits(in)) return false;
    if (warren_accept(in, 'e') || warren_accept(in, 'E')) {
        if (!warren_accept(in, '+')) warren_accept(in, '-');
        return warren_accept_digits(in);
    }
    return true;
}

/* Four hexadecimal digits, or -1. */
WARREN_FN int32_t warren_hex4(const char *at, const char *end) {
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

/* The code point at `*at`, which moves behind it; U+FFFD, a byte on, for what is not UTF-8. `*at` is before `end`. */
WARREN_FN uint32_t warren_utf8_next(const char **at, const char *end) {
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

/* Write a code point; how many bytes it took, at most 4. */
WARREN_FN size_t warren_utf8_write(char *at, uint32_t code) {
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (len == 1) {
        at[0] = (char)code;
        return 1;
    }
    for (size_t i = len - 1; i > 0; i--, code >>= 6) at[i] = (char)(0x80 | (code & 0x3F));
    at[0] = (char)((0xF00 >> len & 0xF0) | code);
    return len;
}

WARREN_FN bool warren_accept_string(warren_cursor *in) {
    if (!warren_accept(in, '"')) return false;
    while (in->at < in->end) {
        unsigned char c = (unsigned char)*in->at;
        if (c == '"') {
            in->at++;
            return true;
        }
        if (c < 0x20) return false;
        if (c == '\\') {
            if (in->end - in->at < 2) return false;
            char escape = in->at[1];
            if (escape == 'u' ? warren_hex4(in->at + 2, in->end) < 0 : !memchr("\"\\/bfnrt", escape, 8)) return false;
            in->at += escape == 'u' ? 6 : 2;
        } else {
            const char *start = in->at;
            if (warren_utf8_next(&in->at, in->end) == 0xFFFD && in->at - start != 3) return false;
        }
    }
    return false;
}

WARREN_FN bool warren_accept_value(warren_cursor *in, int depth);

WARREN_FN bool warren_accept_members(warren_cursor *in, char close, int depth) {
    warren_skip_space(in);
    if (warren_accept(in, close)) return true;
    do {
        if (close == '}') {
            warren_skip_space(in);
            if (!warren_accept_string(in)) return false;
            warren_skip_space(in);
            if (!warren_accept(in, ':')) return false;
        }
        if (!warren_accept_value(in, depth)) return false;
        warren_skip_space(in);
    } while (warren_accept(in, ','));
    return warren_accept(in, close);
}

WARREN_FN bool warren_accept_value(warren_cursor *in, int depth) {
    warren_skip_space(in);
    if (in->at == in->end || depth == 0) return false;
    switch (*in->at) {
        case '{': in->at++; return warren_accept_members(in, '}', depth - 1);
        case '[': in->at++; return warren_accept_members(in, ']', depth - 1);
        case '"': return warren_accept_string(in);
        case 't': return warren_accept_word(in, "true");
        case 'f': return warren_accept_word(in, "false");
        case 'n': return warren_accept_word(in, "null");
        default: return warren_accept_number(in);
    }
}

/* The value under the cursor, which moves behind it. */
WARREN_FN bool warren_take(warren_cursor *in, warren_text *value) {
    warren_skip_space(in);
    value->at = in->at;
    if (!warren_accept_value(in, WARREN_DEPTH)) return false;
    value->len = (size_t)(in->at - value->at);
    return true;
}

WARREN_FN warren_cursor warren_over(warren_text text) {
    warren_cursor in;
    in.at = text.at;
    in.end = text.at + text.len;
    return in;
}

/* The one value that `text` holds. False where it is not JSON. */
WARREN_FN bool warren_read(warren_text text, warren_text *value) {
    warren_cursor in = warren_over(text);
    if (!warren_take(&in, value)) return false;
    warren_skip_space(&in);
    return in.at == in.end;
}

/* The code point that a \u escape spells, with its second half where it is a surrogate; `*at` is behind the `u`. */
WARREN_FN uint32_t warren_unescape_unicode(const char **at, const char *end) {
    int32_t unit = warren_hex4(*at, end);
    *at += 4;
    if (unit < 0xD800 || unit > 0xDFFF) return (uint32_t)unit;
    if (unit < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        int32_t low = warren_hex4(*at + 2, end);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *at += 6;
            return 0x10000 + ((uint32_t)(unit - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
        }
    }
    return 0xFFFD;
}

/* A string's own characters, unescaped, as UTF-8. An unpaired surrogate becomes U+FFFD. False where it is no string. */
WARREN_FN bool warren_string(warren_text value, warren_text *characters) {
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    if (value.len < 2 || value.at[0] != '"') return false;
    const char *at = value.at + 1, *end = value.at + value.len - 1;
    *characters = warren_slice(at, (size_t)(end - at));
    if (!memchr(at, '\\', characters->len)) return true;

    char *copy = (char *)warren_allocate(characters->len); /* no escape is shorter than what it stands for */
    size_t len = 0;
    while (at < end) {
        if (*at != '\\') {
            copy[len++] = *at++;
            continue;
        }
        char escape = at[1];
        at += 2;
        const char *known = (const char *)memchr(from, escape, sizeof from - 1);
        if (escape == 'u') {
            len += warren_utf8_write(copy + len, warren_unescape_unicode(&at, end));
        } else {
            copy[len++] = known ? to[known - from] : escape;
        }
    }
    *characters = warren_slice(copy, len);
    return true;
}

/* The member `name` of an object; the last, where there are several. False where there is none, or no object. */
WARREN_FN bool warren_get(warren_text object, const char *name, warren_text *value) {
    warren_cursor in = warren_over(object);
    bool found = false;
    if (!warren_accept(&in, '{')) return false;
    do {
        warren_text key, characters, member;
        if (!warren_take(&in, &key) || !warren_string(key, &characters)) break;
        warren_skip_space(&in);
        if (!warren_accept(&in, ':') || !warren_take(&in, &member)) break;
        if (warren_is(characters, name)) {
            *value = member;
            found = true;
        }
        warren_skip_space(&in);
    } while (warren_accept(&in, ','));
    return found;
}

/* The characters of a member that is a string. */
WARREN_FN bool warren_get_string(warren_text object, const char *name, warren_text *characters) {
    warren_text value;
    return warren_get(object, name, &value) && warren_string(value, characters);
}

WARREN_FN bool warren_get_bool(warren_text object, const char *name, bool *truth) {
    warren_text value;
    if (!warren_get(object, name, &value) || !(*value.at == 't' || *value.at == 'f')) return false;
    *truth = *value.at == 't';
    return true;
}

/* A member that is a number. The double nearest to it. */
WARREN_FN bool warren_get_number(warren_text object, const char *name, double *number) {
    warren_text value;
    if (!warren_get(object, name, &value) || !(*value.at == '-' || (*value.at >= '0' && *value.at <= '9'))) return false;
    char *copy = (char *)warren_allocate(value.len + 1);
    memcpy(copy, value.at, value.len);
    copy[value.len] = 0;
    *number = strtod(copy, NULL);
    return true;
}

/* A member that is a whole number of 64 bits, written without fraction and exponent. */
WARREN_FN bool warren_get_integer(warren_text object, const char *name, int64_t *number) {
    warren_text value;
    if (!warren_get(object, name, &value)) return false;
    bool negative = *value.at == '-';
    uint64_t most = negative ? (uint64_t)1 << 63 : INT64_MAX, sum = 0;
    if (value.len == negative) return false;
    for (size_t i = negative; i < value.len; i++) {
        unsigned digit = (unsigned)(value.at[i] - '0');
        if (digit > 9 || sum > (most - digit) / 10) return false;
        sum = sum * 10 + digit;
    }
    *number = (int64_t)(negative ? 0 - sum : sum);
    return true;
}

/* The elements of an array, one after another:
 *     warren_text left = array, one;
 *     while (warren_next(&left, &one)) ...                                                                            */
WARREN_FN bool warren_next(warren_text *left, warren_text *element) {
    warren_cursor in = warren_over(*left);
    warren_skip_space(&in);
    if (!warren_accept(&in, '[') && !warren_accept(&in, ',')) return false;
    if (!warren_take(&in, element)) return false;
    warren_skip_space(&in);
    *left = warren_slice(in.at, (size_t)(in.end - in.at));
    return true;
}

/* the host ***********************************************************************************************************/

WARREN_IMPORT("log") void warren_import_log(int32_t level, const char *text, size_t len);
WARREN_IMPORT("host_call")
uint64_t warren_import_host_call(const char *name, size_t name_len, const char *args, size_t args_len);

/* Write a line into this run's log, as with warren_put. */
WARREN_FN void warren_log(warren_level level, const char *format, ...) {
    warren_out line = {0, 0, 0};
    va_list values;
    va_start(values, format);
    warren_vput(&line, format, values);
    va_end(values);
    warren_import_log((int32_t)level, line.at, line.len);
}

/* Call a host function, such as "storage_get", with `args`, a JSON object. True and the JSON it gave; or false, and why
 * it refused. What a plugin was not granted is no refusal: its run ends as `denied`. */
WARREN_FN bool warren_host_call(const char *name, warren_text args, warren_text *answer) {
    uint64_t packed = warren_import_host_call(name, strlen(name), args.at, args.len);
    warren_text reply = warren_slice((const char *)(uintptr_t)(packed >> 32), (size_t)(uint32_t)packed), error;
    if (warren_get(reply, "ok", answer)) return true;
    if (!warren_get(reply, "error", &error) || !warren_get_string(error, "message", answer)) {
        *answer = warren_str("the host's answer cannot be read");
    }
    return false;
}

/* Send `payload`, JSON, to a plugin, which gets it as the action `on_message`, once this run has ended well. `out` gets
 * null; or, and false, why the host refused. */
WARREN_FN bool warren_send(const char *to, const char *topic, warren_text payload, warren_out *out) {
    warren_out args = {0, 0, 0};
    warren_text answer;
    warren_put(&args, "{\"to\":");
    if (to) {
        warren_put(&args, "%q", warren_str(to));
    } else {
        warren_put(&args, "null");
    }
    warren_put(&args, ",\"topic\":%q,\"payload\":%t}", warren_str(topic), payload);
    if (!warren_host_call("send_message", warren_written(&args), &answer)) return warren_fail(out, "%t", answer);
    warren_put(out, "null");
    return true;
}

/* Publish an event for whoever subscribes to its topic; otherwise as warren_send. */
WARREN_FN bool warren_publish(const char *topic, warren_text payload, warren_out *out) {
    return warren_send(NULL, topic, payload, out);
}

/* the plugin *********************************************************************************************************/

WARREN_FN bool warren_run(const warren_action *actions, size_t count, warren_text body, warren_out *out) {
    warren_text request, action, data = warren_str("null");
    if (!warren_read(body, &request)) return warren_fail(out, "the request is not JSON");
    if (!warren_get_string(request, "action", &action)) return warren_fail(out, "the request names no action");
    warren_get(request, "data", &data);
    for (size_t i = 0; i < count; i++) {
        if (warren_is(action, actions[i].action)) return actions[i].function(data, out);
    }
    return warren_fail(out, "unknown action: %t", action);
}

WARREN_FN uint64_t warren_answer(const warren_action *actions, size_t count, warren_text body) {
    warren_out result = {0, 0, 0}, answer = {0, 0, 0};
    if (!warren_run(actions, count, body, &result)) {
        warren_put(&answer, "{\"success\":false,\"result\":null,\"error\":%q}", warren_written(&result));
    } else {
        warren_text written = result.len ? warren_written(&result) : warren_str("null");
        warren_put(&answer, "{\"success\":true,\"result\":%t,\"error\":null}", written);
    }
    return (uint64_t)(uintptr_t)answer.at << 32 | answer.len;
}

/* The plugin's actions, each `{"name", function}`. */
#define WARREN_PLUGIN(...)                                                                                    \
    static const warren_action warren_actions[] = {__VA_ARGS__};                                              \
    WARREN_EXPORT("allocate") void *warren_export_allocate(size_t len) { return warren_allocate(len); }       \
    WARREN_EXPORT("handle_request") uint64_t warren_export_handle_request(const char *at, size_t len) {       \
        return warren_answer(warren_actions, sizeof warren_actions / sizeof *warren_actions, warren_slice(at, len)); \
    }

/* Have a function take the plugin's configuration (`settings`, `capabilities`, `environment`) when it is loaded, once
 * per instance. False fails the load, with what it wrote in the log. */
#define WARREN_INITIALIZE(function)                                                               \
    WARREN_EXPORT("initialize") int32_t warren_export_initialize(const char *at, size_t len) {    \
        warren_out reason = {0, 0, 0};                                                            \
        if (function(warren_slice(at, len), &reason)) return 0;                                   \
        warren_log(WARREN_ERROR, "%t", warren_written(&reason));                                  \
        return 1;                                                                                 \
    }

#endif
