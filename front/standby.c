/* The hook of a container that oci-gpu-runtime has prepared: a process of that runtime is waiting to do the work, so that
   no second Python starts (entrypoints/runtime_standby.py). The hook's arguments name the two FIFOs to it. */
#include "front.h"

enum { LONGEST_END = 16 };

/* Opens one of the two FIFOs, without waiting; a descriptor, or -1 for anything that only root could not have made. */
static int open_end(const char *path, const char *end, bool to_write) {
    static char name[LARGEST_PATH + LONGEST_END];
    size_t size = length(path), rest = length(end);
    if (*path != '/' || size >= LARGEST_PATH)
        return -1;
    for (size_t i = 0; i < size; i++)
        name[i] = path[i];
    for (size_t i = 0; i <= rest; i++)
        name[size + i] = end[i];
    return open_own_fifo(name, to_write);
}

/* Waits until the other has gone, but not for long, and ends this process. It is a child of the runtime, and crun, which
   waits for a hook with a timeout by SIGCHLD, would miss the end of the next hook where both end at once. */
static _Noreturn void end_after(int answer, int status) {
    enum { PATIENCE = 100 }; /* milliseconds */
    wait_for_end(answer, PATIENCE);
    leave(status);
}

/* Passes on what the other says, up to NUL and the digit of its exit status. It ends without when it is killed; this
   returns if it has said nothing by then. */
static void pass_on(int answer) {
    static char piece[4096];
    bool has_spoken = false, has_ended = false;
    long n;
    while ((n = read_some(answer, piece, sizeof piece)) > 0) {
        long said = 0;
        while (!has_ended && said < n && piece[said] != '\0')
            said++;
        has_spoken = has_spoken || said > 0;
        if (!has_ended)
            write_all(2, piece, said);
        if (said < n) {
            if (!has_ended)
                said++;
            has_ended = true;
            if (said < n)
                end_after(answer, piece[said] == '0' ? 0 : 1);
        }
    }
    if (has_spoken)
        leave(1);
}

/* Hands the state over to whoever waits; NOT_SERVED where nobody does, or nobody takes it. */
enum answer ask_standby(const char *path, struct text state) {
    int answer = open_end(path, ".answer", false);
    int asking = answer < 0 ? -1 : open_end(path, ".state", true);
    char begun;
    if (asking < 0)
        return NOT_SERVED;
    ignore_broken_pipes(true);
    bool taken = hand_over(asking, state.start, state.size) && read_some(answer, &begun, 1) == 1;
    ignore_broken_pipes(false);
    if (!taken)
        return NOT_SERVED;
    close_file(asking);
    pass_on(answer);
    return BROKEN_OFF;
}
