/* A scanner of JSON that gives up at the first surprise. */
#include "front.h"

bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Skips white space; returns the byte after it, or NUL at the end (which no caller expects). */
char next_byte(struct cursor *cursor) {
    while (cursor->at < cursor->end && is_space(*cursor->at))
        cursor->at++;
    return cursor->at < cursor->end ? *cursor->at : '\0';
}

bool take(struct cursor *cursor, char expected) {
    if (next_byte(cursor) != expected)
        return false;
    cursor->at++;
    return true;
}

/* Takes a string. `plain`: printable ASCII without escapes, so that its bytes are its value. */
bool take_string(struct cursor *cursor, struct text *value, bool *plain) {
    if (!take(cursor, '"'))
        return false;
    value->start = cursor->at;
    *plain = true;
    for (; cursor->at < cursor->end; cursor->at++) {
        char c = *cursor->at;
        if (c == '"') {
            value->size = cursor->at++ - value->start;
            return true;
        }
        if (c < ' ' || c > '~' || c == '\\')
            *plain = false;
        if (c == '\\')
            cursor->at++;
    }
    return false;
}

static bool is_scalar(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
}

/* Skips a value of any kind, up to the ',' or '}' of the object it stands in. Brackets must match, 64 deep at most. */
bool skip(struct cursor *cursor) {
    unsigned long squares = 0;
    for (int depth = 0;;) {
        struct text ignored;
        bool plain;
        char c = next_byte(cursor);
        if (depth == 0 && (c == ',' || c == '}'))
            return true;
        if (c == '"') {
            if (!take_string(cursor, &ignored, &plain))
                return false;
            continue;
        }
        if (c == '{' || c == '[') {
            if (++depth > 64)
                return false;
            squares = squares << 1 | (c == '[');
        } else if (c == '}' || c == ']') {
            if (depth-- == 0 || (squares & 1) != (c == ']'))
                return false;
            squares >>= 1;
        } else if (!is_scalar(c) && (depth == 0 || (c != ',' && c != ':'))) {
            return false;
        }
        cursor->at++;
    }
}

/* Takes a number without sign, fraction or exponent. */
bool take_number(struct cursor *cursor, unsigned long *value) {
    struct text digits = {cursor->at, 0};
    char c = next_byte(cursor);
    for (digits.start = cursor->at; c >= '0' && c <= '9'; c = cursor->at < cursor->end ? *cursor->at : '\0')
        cursor->at++;
    digits.size = cursor->at - digits.start;
    return number_of(digits, value) && c != '.' && (c | 32) != 'e';
}

/* Takes `true` or `false`. */
bool take_truth(struct cursor *cursor, bool *value) {
    const char *word = next_byte(cursor) == 't' ? "true" : "false";
    if ((size_t)(cursor->end - cursor->at) < length(word) || !begins(cursor->at, word))
        return false;
    cursor->at += length(word);
    *value = *word == 't';
    return true;
}
