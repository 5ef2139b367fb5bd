/* System calls and what is made of them. There is no libc: its start-up would cost more than all the rest. */
#include "front.h"

struct block block = {.magic = "oci-gpu-front-1"};

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, FSTAT = 5, LSEEK = 8, RT_SIGACTION = 13, EXECVE = 59, CHDIR = 80, GETEUID = 107,
       EXIT_GROUP = 231, OPENAT = 257, PPOLL = 271, DUP3 = 292, MEMFD_CREATE = 319,
       CLOSE_RANGE = 436 }; /* arch/x86/entry/syscalls/syscall_64.tbl */
enum { O_NOFOLLOW_ = 0400000 };
struct status { long device, inode, links; unsigned mode, uid, rest[28]; }; /* arch/x86/include/uapi/asm/stat.h */

static long call(long number, long a, long b, long c, long d) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { DUP3 = 24, CHDIR = 49, OPENAT = 56, LSEEK = 62, READ = 63, WRITE = 64, PPOLL = 73, EXIT_GROUP = 94,
       FSTAT = 80, RT_SIGACTION = 134, GETEUID = 175, EXECVE = 221, MEMFD_CREATE = 279,
       CLOSE_RANGE = 436 }; /* include/uapi/asm-generic/unistd.h */
enum { O_NOFOLLOW_ = 0100000 };
struct status { long device, inode; unsigned mode, links, uid, rest[25]; }; /* include/uapi/asm-generic/stat.h */

static long call(long number, long a, long b, long c, long d) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = 0;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
#error "the front knows x86_64 and aarch64; elsewhere the Python stub stands alone"
#endif

enum { EINTR_ = 4, EAGAIN_ = 11, EINVAL_ = 22, POLLIN_ = 1, POLLOUT_ = 4, AT_FDCWD_ = -100 };
enum { O_WRONLY_ = 1, O_RDWR_ = 2, O_NOCTTY_ = 0400, O_NONBLOCK_ = 04000, O_CLOEXEC_ = 02000000 };

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

/* A FIFO that this user alone can have made and opened, by a path whose last name is no link. */
int open_own_fifo(const char *path, bool to_write) {
    enum { TYPE = 0170000, FIFO = 0010000, OF_OTHERS = 0077 };
    struct status found = {0};
    int fd = call(OPENAT, AT_FDCWD_, (long)path,
                  (to_write ? O_WRONLY_ : 0) | O_NOFOLLOW_ | O_CLOEXEC_ | O_NONBLOCK_ | O_NOCTTY_, 0);
    if (fd < 0)
        return fd;
    if (call(FSTAT, fd, (long)&found, 0, 0) == 0 && (found.mode & TYPE) == FIFO && !(found.mode & OF_OTHERS) &&
        found.uid == (unsigned)call(GETEUID, 0, 0, 0, 0))
        return fd;
    close_file(fd);
    return -EINVAL_;
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

_Noreturn void fail(const char *what, const char *path, const char *why) {
    say(same(block.role, "hook") ? "oci-gpu-hook" : same(block.role, "mesos") ? "mesos-containerizer" : "oci-gpu-runtime");
    say(": error: ");
    say(what);
    say(path);
    say(": ");
    say(why);
    say("\n");
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
