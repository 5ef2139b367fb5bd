/* The one way into the kernel: a system call of up to five arguments; what it returns is its result or minus errno. */
#ifndef CALLS_H
#define CALLS_H

#if defined(__x86_64__)
static inline long system_call(long number, long a, long b, long c, long d, long e) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
static inline long system_call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#else
#error "the front knows x86_64 and aarch64; elsewhere the Python stub stands alone"
#endif

static inline long call(long number, long a, long b, long c, long d) {
    return system_call(number, a, b, c, d, 0);
}

enum { AT_FDCWD_ = -100, EPERM_ = 1, ENOENT_ = 2, ESRCH_ = 3, EINTR_ = 4, EAGAIN_ = 11, EEXIST_ = 17, ENOTDIR_ = 20,
       EINVAL_ = 22, ENOTEMPTY_ = 39, ECONNRESET_ = 104 };
enum { O_WRONLY_ = 1, O_RDWR_ = 2, O_CREAT_ = 0100, O_EXCL_ = 0200, O_NOCTTY_ = 0400, O_NONBLOCK_ = 04000,
       O_CLOEXEC_ = 02000000, O_PATH_ = 010000000 };
#if defined(__x86_64__) /* arch/x86/include/uapi/asm has the kernel's own values, aarch64 those of 32-bit ARM */
enum { O_DIRECTORY_ = 0200000, O_NOFOLLOW_ = 0400000 };
#else
enum { O_DIRECTORY_ = 040000, O_NOFOLLOW_ = 0100000 };
#endif

#endif
