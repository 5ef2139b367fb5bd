/* What /proc says of processes: base/processes.py in C. */
#include "front.h"
#include "calls.h"

enum { LARGEST_PROC_FILE = 4096 };

/* Reads the beginning of a file of /proc by one read, as Python does. */
static int read_start(const char *path, char *buffer, struct text *text) {
    int fd = open_to_read(path);
    if (fd < 0)
        return fd;
    long n = read_some(fd, buffer, LARGEST_PROC_FILE);
    close_file(fd);
    *text = (struct text){buffer, n > 0 ? n : 0};
    return n < 0 ? (int)n : 0;
}

static void write_stat_path(char *path, unsigned long pid) {
    const char *const before = "/proc/", *const after = "/stat";
    char digits[24], *digit = digits + sizeof digits - 1;
    *digit = '\0';
    do
        *--digit = '0' + pid % 10;
    while (pid /= 10);
    const char *parts[] = {before, digit, after};
    for (int part = 0; part < 3; part++)
        for (const char *at = parts[part]; *at; at++)
            *path++ = *at;
    *path = '\0';
}

/* Takes the next word; `at` is moved behind it. */
static struct text next_word(struct text *rest) {
    while (rest->size && *rest->start == ' ')
        rest->start++, rest->size--;
    struct text word = {rest->start, 0};
    while (rest->size && *rest->start != ' ' && *rest->start != '\n')
        rest->start++, rest->size--, word.size++;
    return word;
}

/* Whether a process that started at that time is running: processes.lives. Its name may hold any byte: the last ')' counts. */
enum life life_of(unsigned long pid, unsigned long started) {
    static char buffer[LARGEST_PROC_FILE];
    enum { STATE = 0, THREADS = 17, START = 19 };
    char path[64];
    struct text stat;
    unsigned long threads = 0, start = 0;
    bool is_zombie = false;
    write_stat_path(path, pid);
    int status = read_start(path, buffer, &stat);
    if (status == -ENOENT_ || status == -ESRCH_)
        return ENDED;
    size_t name_ends = stat.size;
    while (status == 0 && name_ends && stat.start[name_ends - 1] != ')')
        name_ends--;
    if (status < 0 || !name_ends)
        return UNKNOWN;
    struct text rest = {stat.start + name_ends, stat.size - name_ends};
    for (int field = STATE; field <= START; field++) {
        struct text word = next_word(&rest);
        if (field == STATE)
            is_zombie = is(word, "Z") || is(word, "X") || is(word, "x");
        if ((field == THREADS && !number_of(word, &threads)) || (field == START && !number_of(word, &start)))
            return UNKNOWN;
    }
    return start == started && !(is_zombie && threads <= 1) ? LIVES : ENDED;
}

/* Whether this is the host's root, who owns the state directory: rootless.in_first_user_namespace. */
bool is_root_of_host(void) {
    static char buffer[LARGEST_PROC_FILE];
    struct text map;
    return effective_user() == 0 && read_start("/proc/self/uid_map", buffer, &map) == 0 && has(map, text_of("4294967295"));
}

/* Whether this is in the first pid namespace, whose /proc shows the processes of all others. */
bool sees_all_processes(void) {
    enum { FIRST = 0xEFFFFFFC }; /* include/linux/proc_ns.h, PROC_PID_INIT_INO */
    struct found found;
    int fd = open_to_read("/proc/self/ns/pid");
    bool sees = fd >= 0 && look_at(fd, &found) == 0 && found.inode == (unsigned)FIRST;
    if (fd >= 0)
        close_file(fd);
    return sees;
}

struct text boot_id(void) {
    static char buffer[LARGEST_PROC_FILE];
    struct text id = {buffer, 0};
    if (read_start("/proc/sys/kernel/random/boot_id", buffer, &id) < 0)
        id.size = 0;
    while (id.size && id.start[id.size - 1] == '\n')
        id.size--;
    return id;
}
