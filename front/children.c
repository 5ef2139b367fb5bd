/* A child that works for this process, which waits for the child's answer: one byte. */
#include "front.h"
#include "calls.h"

#if defined(__x86_64__)
enum { GETPID = 39, CLONE = 56, WAIT4 = 61, FCNTL = 72, GETPPID = 110, PRCTL = 157, PIPE2 = 293 };
#else
enum { FCNTL = 25, PIPE2 = 59, PRCTL = 167, GETPID = 172, GETPPID = 173, CLONE = 220, WAIT4 = 260 };
#endif

enum { DUPFD = 0, DUPFD_CLOEXEC = 1030, FIRST = 3 }; /* above the standard descriptors, even where one is closed */

/* Makes a pipe, both ends of which close on exec. */
static bool make_pipe(int ends[2]) {
    int found[2];
    if (call(PIPE2, (long)found, O_CLOEXEC_, 0, 0) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        ends[i] = call(FCNTL, found[i], DUPFD_CLOEXEC, FIRST, 0);
        close_file(found[i]);
    }
    if (ends[0] >= 0 && ends[1] >= 0)
        return true;
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close_file(ends[i]);
    return false;
}

/* Forks. The kernel kills the child when this process ends. In the child, `pid` is 0 and `word` the descriptor to which it,
   or a program that it executes, writes its answer; in this process `word` is where that is read. False: there is no child. */
bool fork_child(struct child *child) {
    enum { SIGCHLD_ = 17, SIGKILL_ = 9, SET_PDEATHSIG = 1 };
    int ends[2];
    if (!make_pipe(ends))
        return false;
    long parent = call(GETPID, 0, 0, 0, 0);
    long pid = system_call(CLONE, SIGCHLD_, 0, 0, 0, 0);
    if (pid < 0) {
        close_file(ends[0]);
        close_file(ends[1]);
        return false;
    }
    *child = (struct child){pid, ends[0]};
    if (pid == 0) {
        call(PRCTL, SET_PDEATHSIG, SIGKILL_, 0, 0);
        child->word = call(FCNTL, ends[1], DUPFD, FIRST, 0);
        if (call(GETPPID, 0, 0, 0, 0) != parent || child->word < 0)
            leave(1); /* it ended before the kernel knew; or no descriptor is left */
    }
    close_file(ends[1]);
    return true;
}

/* Waits for the child's answer; '\0' if it has ended without one. */
char word_of(const struct child *child) {
    char word;
    bool is_said = read_some(child->word, &word, 1) == 1;
    close_file(child->word);
    return is_said ? word : '\0';
}

/* The exit status of a child that has ended, or is about to; -1 where a signal has ended it, or that is not known. */
int status_of(const struct child *child) {
    unsigned status = ~0U;
    long found;
    do
        found = call(WAIT4, child->pid, (long)&status, 0, 0);
    while (found == -EINTR_);
    return found == child->pid && (status & 0x7f) == 0 ? (int)(status >> 8 & 0xff) : -1;
}
