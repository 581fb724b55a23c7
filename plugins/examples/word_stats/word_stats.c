/* word_stats: how long a text is, how it is built, and what it is about.
 *
 * On every message under `text.processed.#` it counts the message's text and publishes `text.stats`; `analyse` answers
 * the same for a text sent to it. An instance serves one request and is gone, so nothing is freed. */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "warren.h"
#include "words.h"

static const char TOPIC[] = "text.stats";

WARREN_EXPORT("allocate")
void *allocate(size_t len) {
    void *at = malloc(len ? len : 1);
    if (!at) __builtin_trap();
    return at;
}

static uint64_t answer(json_slice result) {
    json_buffer out = {0};
    json_put(&out, "{\"success\":true,\"result\":");
    json_put_slice(&out, result);
    json_put(&out, ",\"error\":null}");
    return warren_pack(out.at, out.len);
}

static uint64_t fail(const char *problem, json_slice detail) {
    json_buffer sentence = {0}, out = {0};
    json_put(&sentence, problem);
    json_put_slice(&sentence, detail);
    json_put(&out, "{\"success\":false,\"result\":null,\"error\":");
    json_put_string(&out, (json_slice){sentence.at, sentence.len});
    json_put(&out, "}");
    return warren_pack(out.at, out.len);
}

static void put_keywords(json_buffer *out, const text_stats *stats) {
    json_put(out, ",\"keywords\":[");
    for (size_t i = 0; i < stats->keyword_count; i++) {
        json_put(out, i ? ",{\"word\":" : "{\"word\":");
        json_put_string(out, stats->keywords[i].word);
        json_put(out, ",\"count\":");
        json_put_count(out, stats->keywords[i].weight);
        json_put(out, "}");
    }
    json_put(out, "]");
}

static void put_field(json_buffer *out, const char *name, uint64_t count) {
    json_put(out, name);
    json_put_count(out, count);
}

static void put_ratio(json_buffer *out, const char *name, uint64_t part, uint64_t whole) {
    json_put(out, name);
    json_put_ratio(out, part, whole);
}

/* `document` is JSON already: the name as it came, or null. */
static json_slice describe(json_slice document, const text_stats *stats) {
    json_buffer out = {0};
    json_put(&out, "{\"document\":");
    json_put_slice(&out, document);
    put_field(&out, ",\"characters\":", stats->characters);
    put_field(&out, ",\"words\":", stats->words);
    put_field(&out, ",\"distinct_words\":", stats->distinct_words);
    put_field(&out, ",\"sentences\":", stats->sentences);
    put_field(&out, ",\"paragraphs\":", stats->paragraphs);
    put_ratio(&out, ",\"average_word_length\":", stats->word_characters, stats->words);
    put_ratio(&out, ",\"average_sentence_length\":", stats->words, stats->sentences);
    put_ratio(&out, ",\"type_token_ratio\":", stats->distinct_words, stats->words);
    put_keywords(&out, stats);
    json_put(&out, "}");
    return (json_slice){out.at, out.len};
}

static void log_counts(const text_stats *stats) {
    json_buffer line = {0};
    put_field(&line, "words: ", stats->words);
    put_field(&line, ", sentences: ", stats->sentences);
    warren_log(LOG_INFO, line.at, line.len);
}

/* Publish an event. False with the host's reason where it refuses. */
static bool publish(json_slice payload, json_slice *reason) {
    static const char name[] = "send_message";
    json_buffer args = {0};
    json_put(&args, "{\"to\":null,\"topic\":\"");
    json_put(&args, TOPIC);
    json_put(&args, "\",\"payload\":");
    json_put_slice(&args, payload);
    json_put(&args, "}");

    uint64_t packed = warren_host_call(name, sizeof name - 1, args.at, args.len);
    json_slice reply = {(const char *)(uintptr_t)(packed >> 32), (size_t)(uint32_t)packed}, value, problem;
    static const char unreadable[] = "the host's answer cannot be read";
    *reason = (json_slice){unreadable, sizeof unreadable - 1};
    if (!json_read(reply, &value)) return false;
    if (!json_member(value, "error", &problem)) return true;
    if (json_member(problem, "message", &value)) json_string(value, reason);
    return false;
}

/* `source` is a string, or an object with "text" and perhaps "document". */
static bool find_text(json_slice source, json_slice *text, json_slice *document) {
    json_slice value, name;
    *document = (json_slice){"null", 4};
    if (json_string(source, text)) return true;
    if (json_member(source, "document", &value) && json_string(value, &name)) *document = value;
    return json_member(source, "text", &value) && json_string(value, text);
}

WARREN_EXPORT("handle_request")
uint64_t handle_request(const char *at, size_t len) {
    const json_slice nothing = {"", 0};
    json_slice request, value, action, source, text, document, reason;
    if (!json_read((json_slice){at, len}, &request)) return fail("The request is not JSON", nothing);
    if (!json_member(request, "action", &value) || !json_string(value, &action)) {
        return fail("The request names no action", nothing);
    }

    bool is_message = slice_is(action, "on_message");
    if (!is_message && !slice_is(action, "analyse")) return fail("Unknown action: ", action);
    bool found = json_member(request, "data", &source) && (!is_message || json_member(source, "payload", &source));
    if (!found || !find_text(source, &text, &document)) return fail("There is no text in the data of ", action);

    text_stats stats = words_count(text);
    log_counts(&stats);
    json_slice result = describe(document, &stats);
    if (is_message && !publish(result, &reason)) return fail("The statistics could not be published: ", reason);
    return answer(result);
}
