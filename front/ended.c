/* The end of a container without Python: takes back what its start has made, if the start has left a file that says all of
   that (apply/journal/ending.py), and drops its leases. The front checks every field before it acts on it. In any
   doubt Python is started, whatever was done by then: it looks at what is there. */
#include "front.h"
#include "calls.h"

enum {
    LONGEST_ID = 190, /* that is part of the names of a container's files: entry.key_of */
    LOCK_PATIENCE = 50, /* milliseconds */
    SECONDS = 15, /* limits.CONTAINER_FILES_SECONDS */
};

struct ending { /* what the file says, in its order */
    struct text inode, changed, boot, pid, started, hook_pid, hook_started, id, bundle, rootfs, device, root, born, lock, unit;
    struct text changes;
};

/* What a container has in the journal's directory. */
struct own {
    struct text id;
    char entry[LARGEST_NAME], ending[LARGEST_NAME];
    int entries;
    bool has_more, has_remains;
};

static struct text part(struct text text, size_t from, size_t to) {
    return (struct text){text.start + from, to - from};
}

static bool ends_with(struct text text, struct text end) {
    return text.size >= end.size && equal(part(text, text.size - end.size, text.size), end);
}

/* Finds the last occurrence of a byte; text.size where there is none. */
static size_t last(struct text text, char c) {
    for (size_t i = text.size; i; i--)
        if (text.start[i - 1] == c)
            return i - 1;
    return text.size;
}

/* Splits PID-START, which may be followed by `.` and a suffix. */
static bool split_process(struct text name, unsigned long *pid, unsigned long *started, struct text *suffix) {
    size_t hyphen = 0, dot = 0;
    while (hyphen < name.size && name.start[hyphen] != '-')
        hyphen++;
    while (dot < name.size && name.start[dot] != '.')
        dot++;
    if (hyphen >= dot || dot == name.size)
        return false;
    *suffix = part(name, dot, name.size);
    return number_of(part(name, 0, hyphen), pid) && number_of(part(name, hyphen + 1, dot), started);
}

/* Whether a hook that was killed has left this file: journal.is_left_over, or one of an entry that was not cleaned up. */
static bool is_of_dead(struct text name) {
    unsigned long pid, started;
    struct text suffix;
    size_t tilde = last(name, '~');
    return tilde < name.size && split_process(part(name, tilde + 1, name.size), &pid, &started, &suffix) &&
           life_of(pid, started) != LIVES;
}

/* Takes a file of the journal's directory into account: an entry is ID~PID-START.json. */
static void count(struct own *own, const char *name) {
    struct text whole = text_of(name), suffix;
    unsigned long pid, started;
    bool is_entry = ends_with(whole, text_of(".json"));
    bool is_own = starts_with(whole, own->id) && whole.size > own->id.size + 1;
    char after = is_own ? name[own->id.size] : '\0';
    if (after == '.' && is_entry && whole.size == own->id.size + 5) {
        own->has_more = true; /* of an older version */
    } else if (after == '~' && split_process(part(whole, own->id.size + 1, whole.size), &pid, &started, &suffix)) {
        if (is(suffix, ".json")) {
            own->entries++;
            size_t stem = whole.size - 5;
            for (size_t i = 0; i <= whole.size; i++)
                own->entry[i] = name[i];
            for (size_t i = 0; i < stem; i++)
                own->ending[i] = name[i];
            for (int i = 0; i < 5; i++)
                own->ending[stem + i] = ".end"[i];
        } else if (!is(suffix, ".end")) {
            own->has_more = true;
        }
    } else if (!is_entry && !ends_with(whole, text_of(".end")) && is_of_dead(whole)) {
        own->has_remains = true;
    }
}

/* Finds the container's files; false where the directory cannot be listed. */
static bool find_own(int journal, struct own *own) {
    static struct names names;
    const char *name;
    names.directory = journal;
    while ((name = next_name(&names)))
        if (length(name) < LARGEST_NAME)
            count(own, name);
    return names.size == 0;
}

/* Takes a field, which NUL ends. */
static bool take_field(struct text *rest, struct text *field) {
    *field = (struct text){rest->start, 0};
    while (field->size < rest->size && field->start[field->size])
        field->size++;
    if (field->size == rest->size)
        return false;
    *rest = part(*rest, field->size + 1, rest->size);
    return true;
}

static bool read_ending(struct text data, struct ending *ending) {
    static const char version[] = "oci-gpu-hook ending 1";
    struct text first, end = {"end", sizeof "end"};
    struct text *const fields[] = {
        &ending->inode, &ending->changed, &ending->boot, &ending->pid, &ending->started, &ending->hook_pid, &ending->hook_started,
        &ending->id, &ending->bundle, &ending->rootfs, &ending->device, &ending->root, &ending->born, &ending->lock, &ending->unit};
    if (!ends_with(data, end) || !take_field(&data, &first) || !is(first, version))
        return false;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!take_field(&data, fields[i]))
            return false;
    if (!ends_with(data, end))
        return false;
    ending->changes = part(data, 0, data.size - end.size);
    return true;
}

static bool is_number(struct text digits, unsigned long value) {
    unsigned long said;
    return number_of(digits, &said) && said == value;
}

static bool has_ended(struct text pid, struct text started) {
    unsigned long number, time;
    return number_of(pid, &number) && number_of(started, &time) && life_of(number, time) == ENDED;
}

/* Whether the file belongs to this container's entry, and both the container and its hook have ended. */
static bool is_of(const struct ending *ending, const struct state *state, int journal, const char *entry) {
    struct found found;
    return equal(ending->id, state->id) && equal(ending->bundle, state->bundle) && equal(ending->boot, boot_id()) &&
           ending->boot.size && look_in(journal, entry, &found) == 0 && found.type == A_FILE && is_trusted(&found) &&
           is_number(ending->inode, found.inode) && is_number(ending->changed, found.changed) &&
           has_ended(ending->pid, ending->started) && has_ended(ending->hook_pid, ending->hook_started);
}

static size_t put(char *target, size_t size, struct text text) {
    for (size_t i = 0; i < text.size; i++)
        target[size + i] = text.start[i];
    return size + text.size;
}

/* Whether no other entry, of a running container or not, has this rootfs or this unit. */
static bool is_alone(const struct ending *ending, int journal, const char *own) {
    static struct names names;
    static char data[LARGEST_ENTRY + 1], root[128], unit[LARGEST_NAME + 16];
    static const char of_root[] = "\"rootfsIdentity\": [", of_unit[] = "\"unit\": \"";
    const char *name;
    int fd = open_in(journal, ".", O_DIRECTORY_);
    if (fd < 0 || ending->device.size > 20 || ending->root.size > 20 || ending->unit.size > LARGEST_NAME)
        return false;
    size_t size = put(root, 0, text_of(of_root));
    size = put(root, size, ending->device);
    size = put(root, size, text_of(", "));
    size = put(root, size, ending->root);
    struct text same_root = {root, put(root, size, text_of("]"))}, same_unit = {unit, 0};
    same_unit.size = put(unit, put(unit, put(unit, 0, text_of(of_unit)), ending->unit), text_of("\""));
    names.directory = fd;
    names.size = names.at = 0;
    while ((name = next_name(&names))) {
        struct text entry = {data, 0};
        struct found found;
        if (!ends_with(text_of(name), text_of(".json")) || same(name, own))
            continue;
        if (!read_trusted(journal, name, data, LARGEST_ENTRY, &entry.size, &found)) {
            if (look_in(journal, name, &found) == -ENOENT_)
                continue; /* cleaned up meanwhile */
            return false;
        }
        if (!has(entry, text_of(of_root)) || has(entry, same_root) || (ending->unit.size && has(entry, same_unit)))
            return false;
    }
    close_file(fd);
    return names.size == 0;
}

/* Whether what is at a path is what the start made there: undo.UNDO. */
static bool is_own(char kind, struct text made, const struct found *found, int directory, const char *name) {
    static char target[LARGEST_PATH];
    long size;
    switch (kind) {
    case 'd':
        return found->type == A_DIRECTORY;
    case 'f':
        return found->type == A_FILE && found->size == 0;
    case 'n':
        return found->type == A_NODE && is_number(made, found->numbers);
    default:
        size = found->type == A_LINK ? read_link(directory, name, target, sizeof target) : -1;
        return size >= 0 && equal((struct text){target, size}, made);
    }
}

/* Removes what a start has made in a directory; false in any doubt. What is no longer the start's stays. */
static bool take_from(int directory, char kind, const char *name, struct text made, unsigned long mount) {
    struct found found;
    int status = look_in(directory, name, &found);
    if (status == -ENOENT_)
        return true;
    if (status < 0 || found.mount != mount)
        return false;
    if (!is_own(kind, made, &found, directory, name))
        return true;
    status = remove_from(directory, name, kind == 'd');
    return status == 0 || status == -ENOENT_ || status == -ENOTEMPTY_ || status == -EEXIST_;
}

/* Opens the directory of a path; -ENOENT where it is gone, another error where it is in another mount. */
static int open_parent(int rootfs, struct text path, unsigned long mount) {
    static char text[LARGEST_PATH];
    struct found found;
    if (path.size >= sizeof text)
        return -EINVAL_;
    text[put(text, 0, path)] = '\0';
    int fd = open_below(rootfs, path.size ? text : "/", O_PATH_ | O_DIRECTORY_);
    if (fd >= 0 && (look_at(fd, &found) < 0 || found.mount != mount)) {
        close_file(fd);
        return -EINVAL_;
    }
    return fd;
}

/* Undoes the changes, in the order of the file: the last one first. */
static bool undo(struct text changes, int rootfs, unsigned long mount) {
    struct text known = {"", 0};
    int directory = -1;
    bool is_known = false, is_done = true;
    while (changes.size && is_done) {
        struct text path, made;
        if (!take_field(&changes, &path) || !take_field(&changes, &made) || path.size < 2 || path.start[1] != '/')
            return false;
        char kind = *path.start;
        path = part(path, 1, path.size);
        struct text above = part(path, 0, last(path, '/')), name = part(path, above.size + 1, path.size);
        if (!has((struct text){"dfln", 4}, (struct text){&kind, 1}) || !name.size || is(name, ".") || is(name, ".."))
            return false;
        if (!is_known || !equal(above, known)) {
            if (directory >= 0)
                close_file(directory);
            directory = open_parent(rootfs, above, mount);
            known = above;
            is_known = true;
        }
        if (directory >= 0) /* NUL ends the name in the file */
            is_done = take_from(directory, kind, name.start, made, mount);
        else
            is_done = directory == -ENOENT_;
    }
    if (directory >= 0)
        close_file(directory);
    return is_done;
}

/* Whether the kernel answers for a file system by itself, without a server or a process that may hang. */
static bool is_local(long file_system) {
    enum { EXT = 0xEF53, TMPFS = 0x01021994, OVERLAY = 0x794c7630, XFS = 0x58465342, ZFS = 0x2fc12fc1 };
    const unsigned btrfs = 0x9123683e, f2fs = 0xf2f52010;
    return file_system == EXT || file_system == TMPFS || file_system == OVERLAY || file_system == XFS || file_system == ZFS ||
           file_system == (long)btrfs || file_system == (long)f2fs;
}

/* Removes what was made in the rootfs, unless the engine has removed the rootfs. */
static bool clean(const struct ending *ending) {
    static char path[LARGEST_PATH];
    struct found root;
    if (ending->rootfs.size >= sizeof path || !ending->rootfs.size)
        return false;
    path[put(path, 0, ending->rootfs)] = '\0';
    int fd = open_in(AT_FDCWD_, path, O_PATH_ | O_DIRECTORY_);
    if (fd < 0)
        return fd == -ENOENT_;
    bool is_clean = is_local(file_system_of(fd)) && look_at(fd, &root) == 0 && root.born && is_number(ending->device, root.device) &&
                    is_number(ending->root, root.inode) && is_number(ending->born, root.born) &&
                    undo(ending->changes, fd, root.mount);
    close_file(fd);
    return is_clean;
}

/* Opens a directory that only root can have put there; closes the one above it. */
static int step_into(int above, const char *name) {
    struct found found;
    int fd = open_in(above, name, O_DIRECTORY_ | O_NOFOLLOW_);
    close_file(above);
    if (fd >= 0 && (look_at(fd, &found) < 0 || !is_trusted(&found))) {
        close_file(fd);
        return -EPERM_;
    }
    return fd;
}

/* Removes the drop-in of the container's unit, and its directory unless others have files there: drop_in.remove. */
static bool remove_drop_in(struct text unit) {
    static const char *const path[] = {"run", "systemd", "system.control"};
    static char name[LARGEST_NAME];
    if (!unit.size)
        return true;
    if (unit.size + sizeof ".d" > sizeof name || last(unit, '/') != unit.size)
        return false;
    name[put(name, put(name, 0, unit), text_of(".d"))] = '\0';
    int control = open_in(AT_FDCWD_, "/", O_DIRECTORY_);
    for (int i = 0; i < 3 && control >= 0; i++)
        control = step_into(control, path[i]);
    if (control < 0)
        return control == -ENOENT_;
    int directory = open_in(control, name, O_DIRECTORY_ | O_NOFOLLOW_);
    int status = directory < 0 ? directory : remove_from(directory, "50-oci-gpu-hook.conf", false);
    if (directory >= 0)
        close_file(directory);
    if (status == 0)
        status = remove_from(control, name, true);
    close_file(control);
    return status == 0 || status == -ENOENT_ || status == -ENOTEMPTY_;
}

/* Does what `detach` of apply/cleanup.py does, under the lock of the container's rootfs. */
static bool clean_up(int journal, const struct own *own, const struct state *state) {
    static char data[LARGEST_ENTRY + 1];
    struct text text = {data, 0};
    struct ending ending;
    struct found found;
    unsigned long offset;
    if (own->entries != 1 || own->has_more || own->has_remains ||
        !read_trusted(journal, own->ending, data, LARGEST_ENTRY, &text.size, &found) || !read_ending(text, &ending) ||
        !number_of(ending.lock, &offset))
        return false;
    int lock = open_in(journal, ".lock", O_RDWR_ | O_NOFOLLOW_);
    if (lock < 0)
        return false;
    end_in(SECONDS);
    bool is_done = lock_byte(lock, offset, LOCK_PATIENCE) && is_of(&ending, state, journal, own->entry) &&
                   is_alone(&ending, journal, own->entry) && clean(&ending) && remove_drop_in(ending.unit) &&
                   remove_from(journal, own->entry, false) == 0 && remove_from(journal, own->ending, false) == 0;
    end_in(0);
    close_file(lock);
    return is_done;
}

static bool can_be_in_a_name(struct text id) {
    return id.size && id.size <= LONGEST_ID && last(id, '/') == id.size;
}

enum ended end_container(const struct state *state, const char *toml) {
    static char path[LARGEST_PATH];
    static struct own own;
    struct found found;
    if (!is_root_of_host())
        return HAD_NOTHING; /* only root attaches GPUs */
    if (!state->id.start || !can_be_in_a_name(state->id) || !find_state_directory(toml, path))
        return UNSURE;
    int directory = open_in(AT_FDCWD_, path, O_DIRECTORY_ | O_NOFOLLOW_);
    int journal = directory < 0 ? directory : open_in(directory, "containers", O_DIRECTORY_ | O_NOFOLLOW_);
    if (journal < 0)
        return journal == -ENOENT_ ? HAD_NOTHING : UNSURE;
    own.id = state->id;
    if (look_at(directory, &found) < 0 || !is_trusted(&found) || look_at(journal, &found) < 0 || !is_trusted(&found) ||
        !find_own(journal, &own))
        return UNSURE;
    if (!own.entries && !own.has_more)
        return HAD_NOTHING;
    return clean_up(journal, &own, state) && drop_leases(directory, state->id) ? TAKEN_BACK : UNSURE;
}
