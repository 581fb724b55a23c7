/* {{name}}: greets, and counts words. Every request runs in an instance of its own, so nothing has to be freed. */
#include "warren/warren.h"

/* {"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}. What is written to `out` is JSON, or why it failed. */
static bool greet(warren_text data, warren_out *out) {
    warren_text name;
    if (!warren_get_string(data, "name", &name) || name.len == 0) return warren_fail(out, "there is nobody to greet");
    warren_log(WARREN_INFO, "greeting %t", name);
    warren_put(out, "{\"greeting\":\"Hello, %e!\"}", name);
    return true;
}

static bool count(warren_text data, warren_out *out) {
    warren_text text;
    if (!warren_get_string(data, "text", &text)) return warren_fail(out, "there is no text to count");
    int words = 0;
    bool within = false;
    for (size_t i = 0; i < text.len; i++) {
        bool space = text.at[i] == ' ' || text.at[i] == '\n' || text.at[i] == '\t';
        words += !space && !within;
        within = !space;
    }
    warren_put(out, "{\"words\":%d}", words);
    return true;
}

/* An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear. */
static bool on_message(warren_text message, warren_out *out) {
    warren_text payload;
    warren_out greeting = {0};
    if (!warren_get(message, "payload", &payload) || !greet(payload, &greeting)) return warren_fail(out, "nobody came");
    return warren_publish("greetings", warren_written(&greeting), out);
}

WARREN_PLUGIN({"greet", greet}, {"count", count}, {"on_message", on_message})
