#include "letters.h"

#include <stddef.h>

typedef struct {
    uint32_t first, last;
} range;

/* Beyond ASCII everything is a letter but these: punctuation, symbols, arrows, boxes, pictures, private use. */
static const range NOT_LETTERS[] = {
    {0x80, 0xA9},     {0xAB, 0xB4},     {0xB6, 0xB9},     {0xBB, 0xBF},     {0xD7, 0xD7},       {0xF7, 0xF7},
    {0x2000, 0x206F}, {0x20A0, 0x20CF}, {0x2190, 0x2BFF}, {0x2E00, 0x2E7F}, {0x3000, 0x3004},   {0x3008, 0x3020},
    {0xE000, 0xF8FF}, {0xFE00, 0xFE6F}, {0xFF00, 0xFF0F}, {0xFF1A, 0xFF20}, {0xFF3B, 0xFF40},   {0xFF5B, 0xFF65},
    {0xFFF0, 0xFFFF}, {0x1F000, 0x1FAFF}, {0xE0000, 0xE0FFF},
};

/* Scripts that put no space between words: each sign counts as one, as word processors count them. */
static const range IDEOGRAPHS[] = {
    {0x3041, 0x30FF}, {0x3400, 0x4DBF}, {0x4E00, 0x9FFF}, {0xF900, 0xFAFF}, {0x20000, 0x3FFFF},
};

static bool in_ranges(uint32_t code, const range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last) return true;
    }
    return false;
}

#define IN_RANGES(code, ranges) in_ranges(code, ranges, sizeof(ranges) / sizeof *(ranges))

kind kind_of(uint32_t code) {
    if ((code | 32) >= 'a' && (code | 32) <= 'z') return LETTER;
    if (code >= '0' && code <= '9') return DIGIT;
    switch (code) {
        case '\n': case 0x2028: case 0x2029: return LINE_BREAK;
        case ' ': case '\t': case '\r': case 0xA0: case 0x202F: case 0x3000: return SPACE;
        case '\'': case 0x2019: case '-': case 0x2010: case 0x2011: case '_': return JOINER;
        case '.': case '!': case '?': case 0x2026: case 0x3002: case 0xFF01: case 0xFF1F: return STOP;
        case '"': case ')': case ']': case 0x201D: case 0xBB: case 0x300D: return CLOSER;
        default: break;
    }
    if (code < 0x80) return OTHER;
    if (code >= 0x2000 && code <= 0x200A) return SPACE;
    if (IN_RANGES(code, IDEOGRAPHS)) return IDEOGRAPH;
    return IN_RANGES(code, NOT_LETTERS) ? OTHER : LETTER;
}

uint32_t small_letter(uint32_t code) {
    if (code >= 'A' && code <= 'Z') return code + 32;
    if (code < 0xC0) return code;
    bool latin1_capital = code <= 0xDE && code != 0xD7;
    if (latin1_capital || (code >= 0x391 && code <= 0x3A9) || (code >= 0x410 && code <= 0x42F)) return code + 32;
    if (code >= 0x400 && code <= 0x40F) return code + 80;
    bool odd_capital = (code >= 0x139 && code <= 0x148) || (code >= 0x179 && code <= 0x17E);
    bool even_capital = (code >= 0x100 && code <= 0x137 && code != 0x130) || (code >= 0x14A && code <= 0x177);
    if ((odd_capital && code % 2 == 1) || (even_capital && code % 2 == 0)) return code + 1;
    return code;
}

bool is_small_letter(uint32_t code) {
    static const range SMALL[] = {{'a', 'z'}, {0xDF, 0xF6}, {0xF8, 0xFF}, {0x3AC, 0x3CE}, {0x430, 0x45F}};
    bool latin_extended = code >= 0x100 && code <= 0x17F;
    return IN_RANGES(code, SMALL) || (latin_extended && small_letter(code) == code);
}
