/* The lease table, STATE/leases.json: drops the leases of a container that has ended, as allocation/release.py does. */
#include "front.h"
#include "calls.h"

static const char TABLE[] = "leases.json", NEW_TABLE[] = "leases.json.new", LOCK[] = "leases.lock";
enum { PATIENCE = 200 }; /* milliseconds; a holder keeps the lock for about one */

struct lease {
    struct text container, boot;
    unsigned long pid, started, pid_namespace;
    bool starting, has_pid, has_start, has_namespace, has_starting;
};

/* Takes a lease: an object in the array `leases`. */
static bool take_lease(struct cursor *cursor, struct lease *lease) {
    bool plain;
    *lease = (struct lease){0};
    if (!take(cursor, '{'))
        return false;
    do {
        struct text key;
        bool taken;
        if (!take_string(cursor, &key, &plain) || !plain || !take(cursor, ':'))
            return false;
        if (is(key, "container"))
            taken = take_string(cursor, &lease->container, &plain);
        else if (is(key, "bootId"))
            taken = take_string(cursor, &lease->boot, &plain) && plain;
        else if (is(key, "pid"))
            taken = lease->has_pid = take_number(cursor, &lease->pid);
        else if (is(key, "startTime"))
            taken = lease->has_start = take_number(cursor, &lease->started);
        else if (is(key, "pidNamespace"))
            taken = lease->has_namespace = take_number(cursor, &lease->pid_namespace);
        else if (is(key, "starting"))
            taken = lease->has_starting = take_truth(cursor, &lease->starting);
        else
            taken = skip(cursor);
        if (!taken)
            return false;
    } while (take(cursor, ','));
    return take(cursor, '}') && lease->container.start && lease->boot.start && lease->has_pid && lease->has_start &&
           lease->has_namespace && lease->has_starting;
}

/* Whether the container of a lease is running. Python judges the leases of containers that a runtime is still creating. */
static enum life life_of_holder(const struct lease *lease) {
    enum { FIRST = 0xEFFFFFFC };
    if (lease->starting)
        return UNKNOWN;
    struct text boot = boot_id();
    if (!boot.size)
        return UNKNOWN;
    if (!equal(lease->boot, boot))
        return ENDED;
    if (lease->pid_namespace != (unsigned)FIRST && lease->pid_namespace != 0)
        return UNKNOWN;
    return life_of(lease->pid, lease->started);
}

static void append(char *kept, size_t *size, const char *from, const char *to) {
    while (from < to)
        kept[(*size)++] = *from++;
}

/* Copies the array `leases` without those of the container that have ended; `dropped` counts these. */
static bool keep_leases(struct cursor *cursor, struct text id, char *kept, size_t *size, int *dropped) {
    bool is_first = true;
    if (!take(cursor, '['))
        return false;
    append(kept, size, "[", "["  + 1);
    if (next_byte(cursor) != ']') {
        do {
            struct lease lease;
            next_byte(cursor);
            const char *start = cursor->at;
            if (!take_lease(cursor, &lease))
                return false;
            enum life life = equal(lease.container, id) ? life_of_holder(&lease) : LIVES;
            if (life == UNKNOWN)
                return false;
            if (life == ENDED) {
                ++*dropped;
                continue;
            }
            if (!is_first)
                append(kept, size, ", ", ", " + 2);
            append(kept, size, start, cursor->at);
            is_first = false;
        } while (take(cursor, ','));
    }
    const char *end = cursor->at;
    if (!take(cursor, ']'))
        return false;
    append(kept, size, end, cursor->at);
    return true;
}

/* Copies the table without those leases; false for a table that it may not understand. */
static bool keep_table(struct text table, struct text id, char *kept, size_t *size, int *dropped) {
    struct cursor cursor = {table.start, table.start + table.size};
    bool has_version = false, has_leases = false;
    const char *copied = table.start;
    if (!take(&cursor, '{'))
        return false;
    do {
        struct text key;
        bool plain;
        unsigned long version = 0;
        if (!take_string(&cursor, &key, &plain) || !plain || !take(&cursor, ':'))
            return false;
        if (is(key, "leases")) {
            append(kept, size, copied, cursor.at);
            append(kept, size, " ", " " + 1);
            if (has_leases || !keep_leases(&cursor, id, kept, size, dropped))
                return false;
            copied = cursor.at;
            has_leases = true;
        } else if (is(key, "version")) {
            if (has_version || !take_number(&cursor, &version) || version != 1)
                return false;
            has_version = true;
        } else if (!skip(&cursor)) {
            return false;
        }
    } while (take(&cursor, ','));
    if (!take(&cursor, '}') || next_byte(&cursor) != '\0' || cursor.at != cursor.end)
        return false;
    append(kept, size, copied, cursor.end);
    return has_version && has_leases;
}

static bool replace_table(int directory, const char *kept, size_t size) {
    enum { READABLE = 0644 };
    remove_from(directory, NEW_TABLE, false); /* left by a process that was killed while it had the lock */
    int fd = create_in(directory, NEW_TABLE);
    if (fd < 0)
        return false;
    bool is_written = write_all(fd, kept, size) && set_mode(fd, READABLE) == 0;
    close_file(fd);
    if (is_written && rename_in(directory, NEW_TABLE, TABLE) == 0)
        return true;
    remove_from(directory, NEW_TABLE, false);
    return false;
}

static bool drop_under_lock(int directory, struct text id) {
    /* A table that something else wrote may lack the spaces that are written here: at most one byte more for each comma. */
    static char data[LARGEST_LEASES + 1], kept[2 * LARGEST_LEASES + 16];
    struct text table = {data, 0};
    struct found found;
    size_t size = 0;
    int dropped = 0;
    if (!read_trusted(directory, TABLE, data, LARGEST_LEASES, &table.size, &found) ||
        !keep_table(table, id, kept, &size, &dropped) || size > LARGEST_LEASES)
        return false;
    return !dropped || replace_table(directory, kept, size);
}

bool drop_leases(int directory, struct text id) {
    struct found held, there;
    int lock = open_in(directory, LOCK, O_RDWR_ | O_NOFOLLOW_ | O_NONBLOCK_);
    if (lock < 0)
        return false;
    bool is_dropped = sees_all_processes() && lock_file(lock, PATIENCE) && look_at(lock, &held) == 0 &&
                      look_in(directory, LOCK, &there) == 0 && held.inode == there.inode && drop_under_lock(directory, id);
    close_file(lock);
    return is_dropped;
}
