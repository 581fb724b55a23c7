/* What code points are to somebody who counts words: no tables of Unicode's, only what telling words apart takes. */
#ifndef LETTERS_H
#define LETTERS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { SPACE, LINE_BREAK, LETTER, DIGIT, IDEOGRAPH, JOINER, STOP, CLOSER, OTHER } kind;

kind kind_of(uint32_t code);

/* The small letter of a capital whose UTF-8 is as long: Latin, Greek and Cyrillic. Anything else is itself. */
uint32_t small_letter(uint32_t code);

/* Whether this is a small letter of those scripts, so that no sentence begins with it. */
bool is_small_letter(uint32_t code);

#endif
