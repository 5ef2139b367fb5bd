/* The state directory that config.toml names, where that can be told without a parser of TOML. */
#include "front.h"
#include "calls.h"

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct cursor *cursor) {
    while (cursor->at < cursor->end && is_blank(*cursor->at))
        cursor->at++;
}

/* Takes a word and the blanks behind it. */
static bool take_word(struct cursor *cursor, const char *word) {
    size_t size = length(word);
    if ((size_t)(cursor->end - cursor->at) < size || !begins(cursor->at, word))
        return false;
    cursor->at += size;
    skip_blanks(cursor);
    return true;
}

static bool ends(const struct cursor *cursor) {
    return cursor->at == cursor->end || *cursor->at == '#';
}

/* Takes a path in quotation marks, up to the end of the line; escapes were ruled out before. */
static bool take_path(struct cursor *cursor, char *path) {
    size_t size = 0;
    if (cursor->at == cursor->end || *cursor->at++ != '"')
        return false;
    while (cursor->at < cursor->end && *cursor->at != '"' && size < LARGEST_PATH - 1) {
        if (*cursor->at < ' ' || *cursor->at > '~')
            return false;
        path[size++] = *cursor->at++;
    }
    path[size] = '\0';
    if (!take_word(cursor, "\"") || !ends(cursor))
        return false;
    while (size > 1 && path[size - 1] == '/')
        path[--size] = '\0';
    return *path == '/';
}

static bool next_line(struct text *rest, struct cursor *line) {
    if (!rest->size)
        return false;
    *line = (struct cursor){rest->start, rest->start};
    while (line->end < rest->start + rest->size && *line->end != '\n')
        line->end++;
    size_t step = line->end - rest->start + (line->end < rest->start + rest->size);
    rest->start += step;
    rest->size -= step;
    skip_blanks(line);
    return true;
}

/* Writes the state directory. False in any doubt: a string of several lines, an escape, `state` in another place than
   the heading [state] and comments, anything but `dir = "PATH"` below it. */
bool find_state_directory(const char *path, char *directory) {
    static char toml[LARGEST_TOML + 1];
    static const char usual[] = "/run/oci-gpu-hook";
    struct text rest = {toml, 0};
    struct cursor line;
    bool in_state = false, has_state = false, has_directory = false;
    for (size_t i = 0; i < sizeof usual; i++)
        directory[i] = usual[i];
    int fd = open_to_read(path);
    if (fd == -ENOENT_ || fd == -ENOTDIR_)
        return true;
    if (fd < 0 || read_whole(fd, false, toml, LARGEST_TOML, &rest.size) != WHOLE || (rest.size && has(rest, text_of("\\"))))
        return false;
    close_file(fd);
    if (rest.size && (has(rest, text_of("\"\"\"")) || has(rest, text_of("'''"))))
        return false;
    while (next_line(&rest, &line)) {
        if (ends(&line))
            continue;
        struct text whole = {line.at, line.end - line.at};
        if (take_word(&line, "[state]") && ends(&line)) {
            if (has_state)
                return false;
            in_state = has_state = true;
        } else if (*whole.start == '[') {
            in_state = false;
            if (has(whole, text_of("state")))
                return false;
        } else if (!in_state) {
            if (has(whole, text_of("state")))
                return false;
        } else if (has_directory || !take_word(&line, "dir") || !take_word(&line, "=") || !take_path(&line, directory)) {
            return false;
        } else {
            has_directory = true;
        }
    }
    return true;
}
