/* The words that every request contains at least one of: request/prefilter.py in C. In doubt the answer is "maybe". */
#include "front.h"
#include "calls.h"
#include "words.h"

enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

/* Whether a byte is the first of a word, so that most bytes cost one look. */
static const bool *first_bytes(void) {
    static bool is_first[256];
    for (int word = 0; word < WORD_COUNT; word++)
        is_first[(unsigned char)*WORDS[word]] = true;
    return is_first;
}

static int hexadecimal(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Tells whether JSON escapes could spell a letter of a word: any \u00XX of a letter, digit, '_', '-' or '.'. What Go
   writes for '<', '>' and '&' (\u003c, \u003e, \u0026) could not. */
static bool may_spell(struct text json) {
    for (size_t i = 0; i + 1 < json.size; i++) {
        if (json.start[i] != '\\' || json.start[i + 1] != 'u')
            continue;
        if (json.size - i < 6)
            return true;
        int code = 0;
        for (int digit = 2; digit < 6; digit++) {
            int value = hexadecimal(json.start[i + digit]);
            if (value < 0)
                return true;
            code = code << 4 | value;
        }
        int lower = code | 32;
        if ((lower >= 'a' && lower <= 'z') || (code >= '0' && code <= '9') || code == '_' || code == '-' || code == '.')
            return true;
    }
    return false;
}

bool may_say(struct text json, const char *word) {
    return has(json, text_of(word)) || may_spell(json);
}

/* Words have two letters at least: the second one spares most places the comparison. */
bool may_ask(struct text json) {
    const bool *is_first = first_bytes();
    for (size_t i = 0; i + 1 < json.size; i++)
        if (is_first[(unsigned char)json.start[i]])
            for (int word = 0; word < WORD_COUNT; word++)
                if (json.start[i] == WORDS[word][0] && json.start[i + 1] == WORDS[word][1] &&
                    json.size - i >= length(WORDS[word]) && begins(json.start + i, WORDS[word]))
                    return true;
    return may_spell(json);
}

/* A line of config.toml that names no swarm resource: a comment, or swarm-resource = "". */
static bool line_is_harmless(struct text line) {
    const char *at = line.start, *end = line.start + line.size;
    const char *const expected[] = {"", "swarm-resource", "=", "\"\""};
    for (int part = 0; part < 4; part++) {
        if (part && (size_t)(end - at) >= length(expected[part]) && begins(at, expected[part]))
            at += length(expected[part]);
        else if (part)
            break;
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
            at++;
        if (at < end && *at == '#' && (part == 0 || part == 3))
            return true;
        if (at == end && part == 3)
            return true;
    }
    return !has(line, text_of("swarm"));
}

/* Tells whether the configuration may name a swarm variable, by which any variable becomes a request. Comments can be
   told by their line only where no string has many lines and no escape spells a key. */
static bool may_name_swarm_resource(const char *path) {
    static char toml[LARGEST_TOML + 1];
    int fd = open_to_read(path);
    if (fd == -ENOENT_)
        return false;
    struct text rest = {toml, 0};
    if (fd < 0 || read_whole(fd, false, toml, LARGEST_TOML, &rest.size) != WHOLE)
        return true;
    if (!has(rest, text_of("swarm")) && !has(rest, text_of("\\")))
        return false;
    if (has(rest, text_of("\\")) || has(rest, text_of("\"\"\"")) || has(rest, text_of("'''")))
        return true;
    while (rest.size) {
        struct text line = {rest.start, 0};
        while (line.size < rest.size && line.start[line.size] != '\n')
            line.size++;
        if (!line_is_harmless(line))
            return true;
        size_t step = line.size < rest.size ? line.size + 1 : line.size;
        rest.start += step;
        rest.size -= step;
    }
    return false;
}

/* Whether JSON may be whole: it ends as an object (is_cut_off of request/prefilter.py). What it lacks could ask. */
static bool ends_as_object(struct text json) {
    while (json.size && is_space(json.start[json.size - 1]))
        json.size--;
    return json.size && json.start[json.size - 1] == '}';
}

/* Reads BUNDLE/config.json and says whether its container may ask for a GPU. */
bool bundle_may_ask(struct text bundle, const char *toml) {
    static char path[LARGEST_PATH];
    static char config[LARGEST_CONFIG + 1];
    static const char name[] = "/config.json";
    if (bundle.size + sizeof name > sizeof path)
        return true;
    for (size_t i = 0; i < bundle.size; i++)
        path[i] = bundle.start[i];
    for (size_t i = 0; i < sizeof name; i++)
        path[bundle.size + i] = name[i];
    struct text json = {config, 0};
    int fd = open_to_read(path);
    if (fd < 0 || read_whole(fd, false, config, LARGEST_CONFIG, &json.size) != WHOLE || !ends_as_object(json))
        return true;
    return may_ask(json) || may_name_swarm_resource(toml);
}
