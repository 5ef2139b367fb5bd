/* Takes `bundle` from the OCI state: a scanner of the top-level object that gives up at the first surprise. */
#include "front.h"

struct cursor {
    const char *at, *end;
};

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Skips white space; returns the byte after it, or NUL at the end (which no caller expects). */
static char next(struct cursor *cursor) {
    while (cursor->at < cursor->end && is_space(*cursor->at))
        cursor->at++;
    return cursor->at < cursor->end ? *cursor->at : '\0';
}

static bool take(struct cursor *cursor, char expected) {
    if (next(cursor) != expected)
        return false;
    cursor->at++;
    return true;
}

/* Takes a string. `plain`: printable ASCII without escapes, so that its bytes are its value. */
static bool string(struct cursor *cursor, struct text *value, bool *plain) {
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
static bool skip(struct cursor *cursor) {
    unsigned long squares = 0;
    for (int depth = 0;;) {
        struct text ignored;
        bool plain;
        char c = next(cursor);
        if (depth == 0 && (c == ',' || c == '}'))
            return true;
        if (c == '"') {
            if (!string(cursor, &ignored, &plain))
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

static bool is(struct text text, const char *word) {
    return text.size == length(word) && begins(text.start, word);
}

/* False in any doubt: no object, a key with escapes, `bundle` twice or not an absolute plain path, `bundlePath` of
   the specification's release candidates, anything after the object. */
bool find_bundle(struct text state, struct text *bundle) {
    struct cursor cursor = {state.start, state.start + state.size};
    bool found = false;
    if (!take(&cursor, '{'))
        return false;
    do {
        struct text key;
        bool plain;
        if (!string(&cursor, &key, &plain) || !plain || !take(&cursor, ':') || is(key, "bundlePath"))
            return false;
        if (is(key, "bundle")) {
            if (found || !string(&cursor, bundle, &plain) || !plain || bundle->size == 0 || *bundle->start != '/')
                return false;
            found = true;
        } else if (!skip(&cursor)) {
            return false;
        }
    } while (take(&cursor, ','));
    return found && take(&cursor, '}') && next(&cursor) == '\0' && cursor.at == cursor.end;
}
