#include "words.h"

#include <stdlib.h>
#include <string.h>

#include "letters.h"
#include "word_lists.h"

static int compare_word(const void *key, const void *element) {
    const json_slice *word = key;
    const char *other = *(const char *const *)element;
    size_t len = strlen(other), shared = word->len < len ? word->len : len;
    int order = memcmp(word->at, other, shared);
    return order ? order : (int)word->len - (int)len;
}

#define IS_ONE_OF(word, list) \
    (bsearch(&(word), list, sizeof(list) / sizeof *(list), sizeof *(list), compare_word) != NULL)

/* The distinct words, open-addressed; there is always a free slot. */
typedef struct {
    word_count *slots;
    size_t capacity, used;
} table;

static uint32_t hash(json_slice word) {
    uint32_t value = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < word.len; i++) value = (value ^ (unsigned char)word.at[i]) * 16777619u;
    return value;
}

static word_count *slot_of(const table *words, json_slice word) {
    size_t index = hash(word) & (words->capacity - 1);
    while (words->slots[index].count) {
        json_slice other = words->slots[index].word;
        if (other.len == word.len && memcmp(other.at, word.at, word.len) == 0) break;
        index = (index + 1) & (words->capacity - 1);
    }
    return &words->slots[index];
}

static void grow(table *words) {
    table larger = {NULL, words->capacity ? words->capacity * 2 : 512, words->used};
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots) __builtin_trap();
    for (size_t i = 0; i < words->capacity; i++) {
        if (words->slots[i].count) *slot_of(&larger, words->slots[i].word) = words->slots[i];
    }
    free(words->slots);
    *words = larger;
}

static void count_word(table *words, json_slice word, uint32_t characters) {
    if (words->used * 2 >= words->capacity) grow(words);
    word_count *slot = slot_of(words, word);
    if (!slot->count) {
        *slot = (word_count){word, characters, 0, 0};
        words->used++;
    }
    slot->count++;
}

static bool is_keyword(const word_count *entry) {
    if (entry->characters < 3) return false;
    if (IS_ONE_OF(entry->word, STOP_WORDS) || IS_ONE_OF(entry->word, ABBREVIATIONS)) return false;
    const char *at = entry->word.at, *end = at + entry->word.len;
    while (at < end) {
        if (kind_of(utf8_next(&at, end)) == LETTER) return true;
    }
    return false;
}

/* `plugin` and `plugins` are one subject: the more frequent of the two stands for both. */
static void weigh(const table *words) {
    for (size_t i = 0; i < words->capacity; i++) words->slots[i].weight = words->slots[i].count;
    for (size_t i = 0; i < words->capacity; i++) {
        word_count *plural = &words->slots[i];
        if (plural->characters < 4 || plural->word.at[plural->word.len - 1] != 's') continue;
        word_count *singular = slot_of(words, (json_slice){plural->word.at, plural->word.len - 1});
        if (!singular->count) continue;
        bool more_plural = plural->count > singular->count;
        word_count *kept = more_plural ? plural : singular, *folded = more_plural ? singular : plural;
        kept->weight += folded->weight;
        folded->weight = 0;
    }
}

/* Words are slices of one copy of the text, so the one that stands first in it is the one met first. */
static bool ranks_before(const word_count *one, const word_count *other) {
    return one->weight != other->weight ? one->weight > other->weight : one->word.at < other->word.at;
}

static void rank(text_stats *stats, const table *words) {
    word_count *ranked = stats->keywords;
    for (size_t i = 0; i < words->capacity; i++) {
        const word_count *entry = &words->slots[i];
        bool full = stats->keyword_count == KEYWORDS;
        if (!entry->weight || (full && !ranks_before(entry, &ranked[KEYWORDS - 1])) || !is_keyword(entry)) continue;
        size_t place = full ? KEYWORDS - 1 : stats->keyword_count++;
        for (; place > 0 && ranks_before(entry, &ranked[place - 1]); place--) ranked[place] = ranked[place - 1];
        ranked[place] = *entry;
    }
}

/* Where reading stands, in a copy of the text whose words are made small as they are met. */
typedef struct {
    char *at, *end;
    json_slice word; /* the last one */
    bool in_sentence, in_paragraph;
} reader;

static uint32_t next_code(reader *in) {
    const char *at = in->at;
    uint32_t code = utf8_next(&at, in->end);
    in->at += at - in->at;
    return code;
}

/* The code point at the reader; a line break at the text's end. */
static uint32_t peek(reader in) {
    return in.at < in.end ? next_code(&in) : '\n';
}

static void skip_space(reader *in) {
    while (in->at < in->end && kind_of(peek(*in)) == SPACE) next_code(in);
}

static bool is_blank(kind what) {
    return what == SPACE || what == LINE_BREAK;
}

static bool is_in_word(kind what) {
    return what == LETTER || what == DIGIT;
}

/* Whether the word goes on behind a mark inside it: don't, well-known, 3.11, plugin.toml, 1,204. */
static bool goes_on(reader in, kind before) {
    uint32_t mark = next_code(&in);
    kind after = kind_of(peek(in));
    if (mark == ',') return before == DIGIT && after == DIGIT;
    return (mark == '.' || kind_of(mark) == JOINER) && is_in_word(after);
}

/* The word at the reader, in small letters. */
static uint32_t read_word(reader *in) {
    uint32_t characters = 0;
    kind before = LETTER;
    in->word.at = in->at;
    while (in->at < in->end) {
        kind what = kind_of(peek(*in));
        if (what == IDEOGRAPH && characters > 0) break;
        if (!is_in_word(what) && what != IDEOGRAPH && !goes_on(*in, before)) break;
        char *at = in->at;
        utf8_write(at, small_letter(next_code(in)));
        characters++;
        before = what;
        if (what == IDEOGRAPH) break;
    }
    in->word.len = (size_t)(in->at - in->word.at);
    return characters;
}

static bool is_closing(uint32_t code) {
    return kind_of(code) == CLOSER || code == '\'' || code == 0x2019;
}

/* Whether the stop behind which the reader stands ends a sentence. Behind `e.g` it does not, nor before a small letter;
 * in scripts that put no space between words it always does. */
static bool ends_sentence(reader in, uint32_t stop) {
    if (stop >= 0x3000) return true;
    while (kind_of(peek(in)) == STOP || is_closing(peek(in))) next_code(&in);
    if (!is_blank(kind_of(peek(in))) || (stop == '.' && IS_ONE_OF(in.word, ABBREVIATIONS))) return false;
    while (in.at < in.end && !is_in_word(kind_of(peek(in))) && kind_of(peek(in)) != IDEOGRAPH) next_code(&in);
    return !is_small_letter(peek(in));
}

static void end_sentence(reader *in, text_stats *stats) {
    stats->sentences += in->in_sentence;
    in->in_sentence = false;
}

static void end_paragraph(reader *in, text_stats *stats) {
    end_sentence(in, stats);
    stats->paragraphs += in->in_paragraph;
    in->in_paragraph = false;
}

/* The next word, or the next mark; what it means is counted. */
static void read_next(reader *in, text_stats *stats, table *words) {
    kind what = kind_of(peek(*in));
    if (is_in_word(what) || what == IDEOGRAPH) {
        uint32_t characters = read_word(in);
        count_word(words, in->word, characters);
        stats->words++;
        stats->word_characters += characters;
        in->in_sentence = in->in_paragraph = true;
        return;
    }
    uint32_t code = next_code(in);
    if (what == STOP && in->in_sentence && ends_sentence(*in, code)) end_sentence(in, stats);
    if (what == LINE_BREAK) {
        skip_space(in);
        if (kind_of(peek(*in)) == LINE_BREAK) end_paragraph(in, stats);
    }
}

text_stats words_count(json_slice text) {
    text_stats stats = {0};
    table words = {0};
    reader in = {.at = malloc(text.len + 1)};
    if (!in.at) __builtin_trap();
    memcpy(in.at, text.at, text.len);
    in.end = in.at + text.len;
    for (size_t i = 0; i < text.len; i++) stats.characters += (text.at[i] & 0xC0) != 0x80;

    while (in.at < in.end) read_next(&in, &stats, &words);
    end_paragraph(&in, &stats);
    stats.distinct_words = words.used;
    weigh(&words);
    rank(&stats, &words);
    return stats;
}
