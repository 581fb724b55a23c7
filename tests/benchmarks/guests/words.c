/* Counts the words of a text, and finds what it is about: the sample plugin word_stats without its log line. */
#include "guest.h"
#include "json.h"
#include "words.h"

static void put_keywords(json_buffer *out, const text_stats *stats) {
    for (size_t i = 0; i < stats->keyword_count; i++) {
        if (i) json_put(out, ",");
        json_put_string(out, stats->keywords[i].word);
    }
}

bytes answer(bytes request) {
    json_slice object, data, text;
    bool is_read = json_read((json_slice){request.at, request.len}, &object);
    if (!is_read || !json_member(object, "data", &data) || !json_string(data, &text)) __builtin_trap();
    text_stats stats = words_count(text);
    json_buffer out = {0};
    json_put(&out, "{\"success\":true,\"result\":{\"words\":");
    json_put_count(&out, stats.words);
    json_put(&out, ",\"sentences\":");
    json_put_count(&out, stats.sentences);
    json_put(&out, ",\"keywords\":[");
    put_keywords(&out, &stats);
    json_put(&out, "]},\"error\":null}");
    return (bytes){out.at, out.len};
}
