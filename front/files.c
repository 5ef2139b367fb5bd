/* Files and directories of the host and of a rootfs: the system calls of the poststop that needs no Python. */
#include "front.h"
#include "calls.h"

#if defined(__x86_64__)
enum { FCNTL = 72, FLOCK = 73, SETITIMER = 38, FCHMOD = 91, FSTATFS = 138, GETDENTS64 = 217, OPENAT = 257, UNLINKAT = 263,
       RENAMEAT = 264, READLINKAT = 267, PPOLL = 271, STATX = 332 };
#else
enum { FCNTL = 25, FLOCK = 32, UNLINKAT = 35, RENAMEAT = 38, FSTATFS = 44, FCHMOD = 52, OPENAT = 56, GETDENTS64 = 61,
       PPOLL = 73, READLINKAT = 78, SETITIMER = 103, STATX = 291 };
#endif
enum { OPENAT2 = 437 };

int open_in(int directory, const char *path, int flags) {
    return call(OPENAT, directory, (long)path, flags | O_CLOEXEC_, 0);
}

int open_below(int root, const char *path, int flags) {
    enum { RESOLVE_NO_MAGICLINKS = 0x02, RESOLVE_IN_ROOT = 0x10, TRIES = 128 };
    struct { unsigned long flags, mode, resolve; } how = {flags | O_CLOEXEC_, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = -EAGAIN_;
    for (int i = 0; i < TRIES && fd == -EAGAIN_; i++) /* a rename anywhere may disturb it */
        fd = call(OPENAT2, root, (long)path, (long)&how, sizeof how);
    return fd;
}

int create_in(int directory, const char *name) {
    return call(OPENAT, directory, (long)name, O_WRONLY_ | O_CREAT_ | O_EXCL_ | O_NOFOLLOW_ | O_CLOEXEC_, 0600);
}

struct statx { /* include/uapi/linux/stat.h */
    unsigned mask, block_size;
    unsigned long attributes;
    unsigned links, uid, gid;
    unsigned short mode, spare;
    unsigned long inode, size, blocks, attributes_mask;
    struct { long seconds; unsigned nanoseconds; int reserved; } accessed, born, changed, modified;
    unsigned rdev_major, rdev_minor, dev_major, dev_minor;
    unsigned long mount, rest[13];
};

/* The form of glibc's makedev, which is Python's. */
static unsigned long device_number(unsigned long major, unsigned long minor) {
    return (major & 0xfffff000) << 32 | (major & 0xfff) << 8 | (minor & 0xffffff00) << 12 | (minor & 0xff);
}

static int look(int directory, const char *name, int flags, struct found *found) {
    enum { BASIC = 0x7ff, BORN = 0x800, MOUNT = 0x1000, TYPE = 0170000 };
    struct statx is = {0};
    int status = system_call(STATX, directory, (long)name, flags, BASIC | BORN | MOUNT, (long)&is);
    if (status < 0)
        return status;
    if ((is.mask & (BASIC | MOUNT)) != (BASIC | MOUNT))
        return -EINVAL_; /* a kernel before 5.8, or a file system that says less */
    found->type = is.mode & TYPE;
    found->mode = is.mode;
    found->uid = is.uid;
    found->device = device_number(is.dev_major, is.dev_minor);
    found->inode = is.inode;
    found->size = is.size;
    found->born = is.mask & BORN ? is.born.seconds * 1000000000 + is.born.nanoseconds : 0;
    found->changed = is.modified.seconds * 1000000000 + is.modified.nanoseconds;
    found->numbers = device_number(is.rdev_major, is.rdev_minor);
    found->mount = is.mount;
    return 0;
}

int look_in(int directory, const char *name, struct found *found) {
    enum { AT_SYMLINK_NOFOLLOW_ = 0x100 };
    return look(directory, name, AT_SYMLINK_NOFOLLOW_, found);
}

int look_at(int fd, struct found *found) {
    enum { AT_EMPTY_PATH_ = 0x1000 };
    return look(fd, "", AT_EMPTY_PATH_, found);
}

bool is_trusted(const struct found *found) {
    enum { BY_OTHERS = 0022 };
    return found->uid == 0 && !(found->mode & BY_OTHERS);
}

/* Reads a regular file of at most `limit` bytes, into a buffer of one more. */
bool read_trusted(int directory, const char *name, char *buffer, size_t limit, size_t *size, struct found *found) {
    int fd = open_in(directory, name, O_NOFOLLOW_ | O_NONBLOCK_ | O_NOCTTY_);
    if (fd < 0)
        return false;
    bool is_read = look_at(fd, found) == 0 && found->type == A_FILE && is_trusted(found) &&
                   read_whole(fd, false, buffer, limit, size) == WHOLE;
    close_file(fd);
    return is_read;
}

int remove_from(int directory, const char *name, bool is_directory) {
    enum { AT_REMOVEDIR_ = 0x200 };
    return call(UNLINKAT, directory, (long)name, is_directory ? AT_REMOVEDIR_ : 0, 0);
}

int rename_in(int directory, const char *name, const char *other) {
    return call(RENAMEAT, directory, (long)name, directory, (long)other);
}

int set_mode(int fd, unsigned mode) {
    return call(FCHMOD, fd, mode, 0, 0);
}

long read_link(int directory, const char *name, char *target, size_t size) {
    return call(READLINKAT, directory, (long)name, (long)target, size);
}

long file_system_of(int fd) {
    long status[32] = {0}; /* struct statfs, whose first member is the type */
    return call(FSTATFS, fd, (long)status, 0, 0) == 0 ? status[0] : 0;
}

static void pause_briefly(void) {
    long time[2] = {0, 1000000};
    call(PPOLL, 0, 0, (long)time, 0);
}

/* Locks as journal.Lock does: a byte of the open file. */
bool lock_byte(int fd, unsigned long offset, int patience) {
    enum { F_OFD_SETLK_ = 37, F_WRLCK_ = 1 };
    struct { short type, from; long start, size; int pid; } lock = {F_WRLCK_, 0, offset, 1, 0};
    int status;
    while ((status = call(FCNTL, fd, F_OFD_SETLK_, (long)&lock, 0)) == -EAGAIN_ && patience-- > 0)
        pause_briefly();
    return status == 0;
}

bool lock_file(int fd, int patience) {
    enum { LOCK_EX_ = 2, LOCK_NB_ = 4 };
    int status;
    while ((status = call(FLOCK, fd, LOCK_EX_ | LOCK_NB_, 0, 0)) == -EAGAIN_ && patience-- > 0)
        pause_briefly();
    return status == 0;
}

void end_in(int seconds) {
    long time[4] = {0, 0, seconds, 0}; /* struct itimerval */
    if (seconds)
        let_alarm_end(); /* an engine may start hooks with any signal ignored or blocked */
    call(SETITIMER, 0, (long)time, 0, 0);
}

const char *next_name(struct names *names) {
    enum { SIZE_AT = 16, NAME_AT = 19 }; /* struct linux_dirent64 */
    if (names->at >= names->size) {
        names->size = call(GETDENTS64, names->directory, (long)names->entries, sizeof names->entries, 0);
        names->at = 0;
        if (names->size <= 0)
            return NULL;
    }
    const char *entry = names->entries + names->at;
    names->at += *(const unsigned short *)(entry + SIZE_AT);
    return entry + NAME_AT;
}
