/* word_count: how many words a text has, and which it has most often. */
#include "../../sdk/c/warren/warren.h"

#define MOST 5 /* of the most frequent words are told */

typedef struct {
    warren_text word;
    int count;
} frequency;

/* All words of a text and how often each is there: open addressing, in a table that is at most half full. */
typedef struct {
    frequency *at;
    size_t size;
    int words, distinct;
} table;

static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c < 0; /* all that is not ASCII */
}

/* The next word at `*at` or behind it, made small in place; empty at the end. */
static warren_text next_word(char **at, char *end) {
    char *start = *at;
    while (start < end) {
        if (*start >= 'A' && *start <= 'Z') *start += 'a' - 'A';
        if (is_word(*start)) break;
        start++;
    }
    char *stop = start;
    while (stop < end) {
        if (*stop >= 'A' && *stop <= 'Z') *stop += 'a' - 'A';
        if (!is_word(*stop)) break;
        stop++;
    }
    *at = stop;
    return (warren_text){start, (size_t)(stop - start)};
}

static void add(table *counts, warren_text word) {
    uint32_t hash = 2166136261; /* FNV-1a */
    for (size_t i = 0; i < word.len; i++) hash = (hash ^ (uint8_t)word.at[i]) * 16777619;
    frequency *slot;
    do {
        slot = &counts->at[hash++ & (counts->size - 1)];
    } while (slot->count && (slot->word.len != word.len || memcmp(slot->word.at, word.at, word.len)));
    counts->words++;
    counts->distinct += !slot->count;
    slot->word = word;
    slot->count++;
}

static int by_frequency(const void *left, const void *right) {
    const frequency *a = left, *b = right;
    if (a->count != b->count) return a->count < b->count ? 1 : -1;
    size_t shorter = a->word.len < b->word.len ? a->word.len : b->word.len;
    int order = memcmp(a->word.at, b->word.at, shorter);
    return order ? order : (int)a->word.len - (int)b->word.len;
}

/* The words come to the front, the most frequent first. */
static void sort(table *counts) {
    size_t filled = 0;
    for (size_t i = 0; i < counts->size; i++) {
        if (counts->at[i].count) counts->at[filled++] = counts->at[i];
    }
    qsort(counts->at, filled, sizeof *counts->at, by_frequency);
}

static bool count(warren_text data, warren_out *out) {
    warren_text text, word;
    if (!warren_get_string(data, "text", &text)) return warren_fail(out, "there is no text in the data");
    table counts = {.size = 16};
    while (counts.size < text.len + 2) counts.size *= 2; /* a word and what ends it take two bytes */
    counts.at = calloc(counts.size, sizeof *counts.at);
    if (!counts.at) return warren_fail(out, "the text is too long for the memory there is");

    char *at = (char *)text.at; /* this instance's memory, which serves this request and no other */
    while ((word = next_word(&at, (char *)text.at + text.len)).len) add(&counts, word);
    if (!counts.words) return warren_fail(out, "there are no words in the text");
    sort(&counts);

    warren_log(WARREN_INFO, "%d words, %d of them distinct", counts.words, counts.distinct);
    warren_put(out, "{\"words\":%d,\"distinct\":%d,\"most_frequent\":[", counts.words, counts.distinct);
    for (int i = 0; i < MOST && i < counts.distinct; i++) {
        const frequency *one = &counts.at[i];
        warren_put(out, "%s{\"word\":%q,\"count\":%d}", i ? "," : "", one->word, one->count);
    }
    warren_put(out, "]}");
    return true;
}

WARREN_PLUGIN({"count", count})
