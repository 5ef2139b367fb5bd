/* Reads what identifies a container from the OCI state. */
#include "front.h"

/* A member that is a plain string; false where it is not, or was there before. */
static bool take_once(struct cursor *cursor, struct text *value) {
    bool plain, is_first = !value->start;
    return take_string(cursor, value, &plain) && plain && is_first;
}

/* False in any doubt: no object, a key with escapes, `bundle`, `id` or `status` twice or not a plain string, `bundle`
   not an absolute path, `bundlePath` of the specification's release candidates, anything after the object. What is not
   there but the bundle is left without a start. */
bool read_state(struct text json, struct state *state) {
    struct cursor cursor = {json.start, json.start + json.size};
    *state = (struct state){0};
    if (!take(&cursor, '{'))
        return false;
    do {
        struct text key;
        bool plain;
        if (!take_string(&cursor, &key, &plain) || !plain || !take(&cursor, ':') || is(key, "bundlePath"))
            return false;
        struct text *known = is(key, "bundle") ? &state->bundle : is(key, "id") ? &state->id : is(key, "status") ? &state->status : NULL;
        if (known ? !take_once(&cursor, known) : !skip(&cursor))
            return false;
    } while (take(&cursor, ','));
    return state->bundle.size != 0 && *state->bundle.start == '/' && take(&cursor, '}') && next_byte(&cursor) == '\0' &&
           cursor.at == cursor.end;
}
