/* Words and sentences of a text in any script that parts words, and what they come to. */
#ifndef WORDS_H
#define WORDS_H

#include "json.h"

#define KEYWORDS 10

typedef struct {
    json_slice word; /* in small letters */
    uint32_t characters;
    uint32_t count;
    uint32_t weight; /* with the other number, singular or plural, of a word that has both in the text */
} word_count;

typedef struct {
    uint64_t characters;
    uint64_t words;
    uint64_t word_characters;
    uint64_t distinct_words;
    uint64_t sentences;
    uint64_t paragraphs;
    size_t keyword_count;
    word_count keywords[KEYWORDS]; /* the weightiest first; of equals, the one the text has first */
} text_stats;

text_stats words_count(json_slice text);

#endif
