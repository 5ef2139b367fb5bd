/* System calls and what is made of them. There is no libc: its start-up would cost more than all the rest. */
#include "front.h"
#include "calls.h"

struct block block = {.magic = "oci-gpu-front-1"};

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, FSTAT = 5, LSEEK = 8, RT_SIGACTION = 13, RT_SIGPROCMASK = 14, EXECVE = 59, CHDIR = 80, GETEUID = 107,
       EXIT_GROUP = 231, OPENAT = 257, PPOLL = 271, DUP3 = 292, MEMFD_CREATE = 319,
       CLOSE_RANGE = 436 }; /* arch/x86/entry/syscalls/syscall_64.tbl */
struct status { long device, inode, links; unsigned mode, uid, rest[28]; }; /* arch/x86/include/uapi/asm/stat.h */
#else
enum { DUP3 = 24, CHDIR = 49, OPENAT = 56, LSEEK = 62, READ = 63, WRITE = 64, PPOLL = 73, EXIT_GROUP = 94,
       FSTAT = 80, RT_SIGACTION = 134, RT_SIGPROCMASK = 135, GETEUID = 175, EXECVE = 221, MEMFD_CREATE = 279,
       CLOSE_RANGE = 436 }; /* include/uapi/asm-generic/unistd.h */
struct status { long device, inode; unsigned mode, links, uid, rest[25]; }; /* include/uapi/asm-generic/stat.h */
#endif

enum { POLLIN_ = 1, POLLOUT_ = 4 };

size_t length(const char *text) {
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

bool begins(const char *text, const char *start) {
    while (*start)
        if (*text++ != *start++)
            return false;
    return true;
}

bool same(const char *a, const char *b) {
    return begins(a, b) && a[length(b)] == '\0';
}

bool is(struct text text, const char *word) {
    return text.size == length(word) && begins(text.start, word);
}

bool equal(struct text a, struct text b) {
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (a.start[i] != b.start[i])
            return false;
    return true;
}

bool starts_with(struct text text, struct text start) {
    return text.size >= start.size && equal((struct text){text.start, start.size}, start);
}

bool has(struct text text, struct text part) {
    for (size_t i = 0; i + part.size <= text.size; i++)
        if (text.start[i] == *part.start && equal((struct text){text.start + i, part.size}, part))
            return true;
    return false;
}

struct text text_of(const char *word) {
    return (struct text){word, length(word)};
}

/* The value of decimal digits; false for none, for anything else, and for more than 63 bits hold. */
bool number_of(struct text digits, unsigned long *value) {
    *value = 0;
    for (size_t i = 0; i < digits.size; i++) {
        char c = digits.start[i];
        if (c < '0' || c > '9' || *value > (~0UL >> 1) / 10 - 1)
            return false;
        *value = *value * 10 + (c - '0');
    }
    return digits.size != 0;
}

char *in_decimal(int number) {
    static char text[12];
    char *digit = text + sizeof text - 1;
    do
        *--digit = '0' + number % 10;
    while (number /= 10);
    return digit;
}

int open_to_read(const char *path) {
    return call(OPENAT, AT_FDCWD_, (long)path, O_CLOEXEC_ | O_NONBLOCK_ | O_NOCTTY_, 0);
}

static void wait_for(int fd, short what) {
    struct { int fd; short events, happened; } wait = {fd, what, 0};
    call(PPOLL, (long)&wait, 1, 0, 0);
}

/* Reads to the end, into a buffer of limit + 1 bytes: the last one tells a document of the limit from a longer one.
   `patient`: waits where nothing is there yet, as in an engine's pipe that does not block. */
enum whole read_whole(int fd, bool patient, char *buffer, size_t limit, size_t *size) {
    *size = 0;
    while (*size <= limit) {
        long n = call(READ, fd, (long)(buffer + *size), limit + 1 - *size, 0);
        if (n == 0)
            return WHOLE;
        if (n > 0) {
            *size += n;
        } else if (n == -EAGAIN_ && patient) {
            wait_for(fd, POLLIN_);
        } else if (n != -EINTR_) {
            return BROKEN;
        }
    }
    return TOO_LARGE;
}

static bool push(int fd, bool patient, const char *data, size_t size) {
    while (size) {
        long n = call(WRITE, fd, (long)data, size, 0);
        if (n == -EAGAIN_ && patient) {
            wait_for(fd, POLLOUT_);
            n = 0;
        }
        if (n < 0)
            return false;
        data += n;
        size -= n;
    }
    return true;
}

bool write_all(int fd, const char *data, size_t size) {
    return push(fd, false, data, size);
}

bool hand_over(int fd, const char *data, size_t size) {
    return push(fd, true, data, size);
}

long read_some(int fd, char *buffer, size_t size) {
    for (;;) {
        long n = call(READ, fd, (long)buffer, size, 0);
        if (n != -EAGAIN_ && n != -EINTR_)
            return n;
        wait_for(fd, POLLIN_);
    }
}

void wait_for_end(int fd, int patience) {
    struct { int fd; short events, happened; } wait = {fd, 0, 0}; /* that the last writer has gone is always told */
    struct { long seconds, nanoseconds; } time = {0, patience * 1000000L};
    call(PPOLL, (long)&wait, 1, (long)&time, 0);
}

/* A FIFO that this user alone can have made and opened, by a path whose last name is no link. */
int open_own_fifo(const char *path, bool to_write) {
    enum { TYPE = 0170000, FIFO = 0010000, OF_OTHERS = 0077 };
    struct status found = {0};
    int fd = call(OPENAT, AT_FDCWD_, (long)path,
                  (to_write ? O_WRONLY_ : 0) | O_NOFOLLOW_ | O_CLOEXEC_ | O_NONBLOCK_ | O_NOCTTY_, 0);
    if (fd < 0)
        return fd;
    if (call(FSTAT, fd, (long)&found, 0, 0) == 0 && (found.mode & TYPE) == FIFO && !(found.mode & OF_OTHERS) &&
        found.uid == effective_user())
        return fd;
    close_file(fd);
    return -EINVAL_;
}

unsigned effective_user(void) {
    return call(GETEUID, 0, 0, 0, 0);
}

void close_file(int fd) {
    call(CLOSE_RANGE, fd, fd, 0, 0);
}

int memory_file(const char *name) {
    enum { NOEXEC_SEAL = 8 }; /* Linux 6.3; demanded where vm.memfd_noexec is 2, EINVAL before */
    int fd = call(MEMFD_CREATE, (long)name, NOEXEC_SEAL, 0, 0);
    return fd == -EINVAL_ ? (int)call(MEMFD_CREATE, (long)name, 0, 0, 0) : fd;
}

void rewind_file(int fd) {
    call(LSEEK, fd, 0, 0, 0);
}

/* Whether what is read stays there to be read again, as it does in a file and not in a pipe. */
bool can_rewind(int fd) {
    return call(LSEEK, fd, 0, 0, 0) == 0;
}

void move_to_stdin(int fd) {
    call(DUP3, fd, 0, 0, 0); /* EINVAL where it is there already */
}

void close_above_stderr(void) {
    call(CLOSE_RANGE, 3, ~0U, 0, 0); /* Linux 5.9; before, an engine's leak goes on to Python as it came here */
}

bool is_ignored(int signal) {
    enum { SIG_IGN_ = 1, MASK_SIZE = 8 };
    struct { long handler, flags, restorer, mask; } action = {0}; /* struct sigaction of the kernel; aarch64's is shorter */
    return call(RT_SIGACTION, signal, 0, (long)&action, MASK_SIZE) == 0 && action.handler == SIG_IGN_;
}

void let_alarm_end(void) {
    enum { SIGALRM_ = 14, SIG_UNBLOCK_ = 1, MASK_SIZE = 8 };
    struct { long handler, flags, restorer, mask; } action = {0}; /* SIG_DFL, which ends the process */
    long alarm = 1L << (SIGALRM_ - 1);
    call(RT_SIGACTION, SIGALRM_, (long)&action, 0, MASK_SIZE);
    call(RT_SIGPROCMASK, SIG_UNBLOCK_, (long)&alarm, 0, MASK_SIZE);
}

void ignore_broken_pipes(bool ignored) {
    enum { SIGPIPE_ = 13, MASK_SIZE = 8 };
    struct { long handler, flags, restorer, mask; } action = {ignored, 0, 0, 0}; /* SIG_DFL is 0, SIG_IGN 1 */
    call(RT_SIGACTION, SIGPIPE_, (long)&action, 0, MASK_SIZE);
}

void go_to_root_directory(void) {
    call(CHDIR, (long)"/", 0, 0, 0);
}

int execute(const char *path, char **argv, char **envp) {
    return -call(EXECVE, (long)path, (long)argv, (long)envp, 0);
}

_Noreturn void leave(int status) {
    for (;;)
        call(EXIT_GROUP, status, 0, 0, 0);
}

static void say(const char *text) {
    write_all(2, text, length(text));
}

_Noreturn void fail(const char *what, const char *path, const char *why, const char *code) {
    say(same(block.role, "hook") ? "oci-gpu-hook" : same(block.role, "mesos") ? "mesos-containerizer" : "oci-gpu-runtime");
    say(": error: ");
    say(what);
    say(path);
    say(": ");
    say(why);
    say(" [");
    say(code);
    say("]\n");
    leave(1);
}

/* With a standard descriptor closed, what is opened next would take its place. */
void fill_standard_descriptors(void) {
    long fd;
    do
        fd = call(OPENAT, AT_FDCWD_, (long)"/dev/null", O_RDWR_, 0);
    while (fd >= 0 && fd < 2);
    if (fd > 2)
        call(CLOSE_RANGE, fd, fd, 0, 0);
}
