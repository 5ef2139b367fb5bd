/* Asks the resident (entrypoints/resident) to do what Python would be started for. Until it has been told to go, nothing
   has been done, and whatever is wrong has Python started; from then on its worker is the hook. */
#include "front.h"
#include "calls.h"

#if defined(__x86_64__)
enum { SOCKET = 41, CONNECT = 42, SENDTO = 44, RECVFROM = 45, SENDMSG = 46, GETSOCKOPT = 55, PPOLL = 271 };
#else
enum { PPOLL = 73, SOCKET = 198, CONNECT = 203, SENDTO = 206, RECVFROM = 207, GETSOCKOPT = 209, SENDMSG = 211 };
#endif

enum {
    PATIENCE = 50, /* milliseconds, for the first answer */
    PATIENCE_IN_QUEUE = 1000, /* milliseconds, for the next where the first was that all workers are busy */
    LARGEST_CALL = 16 << 10,
    STANDARD = 3, /* descriptors */
    UNIX = 1, SEQPACKET = 5, CLOEXEC = 02000000, NOSIGNAL = 0x4000, SOL_SOCKET_ = 1, SCM_RIGHTS_ = 1, PEERCRED = 17,
};

static const char MAGIC[] = "oci-gpu-hook resident 2";

/* Opens the socket if root alone can have put it there: in a directory of root's, as one that only root can use. */
static int open_socket(const char *path) {
    enum { A_SOCKET = 0140000, OF_OTHERS = 0077 };
    static char above[LARGEST_PATH];
    struct found found;
    size_t slash = length(path);
    while (slash && path[slash] != '/')
        slash--;
    if (!slash || slash >= LARGEST_PATH)
        return -EINVAL_;
    for (size_t i = 0; i < slash; i++)
        above[i] = path[i];
    above[slash] = '\0';
    int directory = open_in(AT_FDCWD_, above, O_PATH_ | O_DIRECTORY_ | O_NOFOLLOW_);
    if (directory < 0)
        return directory;
    bool is_roots = look_at(directory, &found) == 0 && found.uid == 0 && is_trusted(&found);
    int fd = is_roots ? open_in(directory, path + slash + 1, O_PATH_ | O_NOFOLLOW_) : -EPERM_;
    close_file(directory);
    if (fd >= 0 && (look_at(fd, &found) < 0 || found.type != A_SOCKET || found.uid != 0 || found.mode & OF_OTHERS)) {
        close_file(fd);
        return -EPERM_;
    }
    return fd;
}

/* Connects to what was judged, by its descriptor, if root listens there; never waits. */
static int connect_to(const char *path) {
    struct { unsigned short family; char path[108]; } address = {UNIX, "/proc/self/fd/"};
    struct { int pid; unsigned uid, gid; } peer = {0, ~0U, ~0U};
    unsigned size = sizeof peer;
    char digits[12], *digit = digits + sizeof digits - 1;
    int judged = open_socket(path);
    if (judged < 0)
        return judged;
    *digit = '\0';
    int rest = judged;
    do
        *--digit = '0' + rest % 10;
    while (rest /= 10);
    for (char *at = address.path + length(address.path); (*at = *digit); at++)
        digit++;
    int fd = system_call(SOCKET, UNIX, SEQPACKET | CLOEXEC | O_NONBLOCK_, 0, 0, 0);
    bool is_connected = fd >= 0 && call(CONNECT, fd, (long)&address, sizeof address, 0) == 0 &&
                        system_call(GETSOCKOPT, fd, SOL_SOCKET_, PEERCRED, (long)&peer, (long)&size) == 0 && peer.uid == 0;
    close_file(judged);
    if (fd >= 0 && !is_connected)
        close_file(fd);
    return is_connected ? fd : -EPERM_;
}

static bool add(char *packet, size_t *size, const char *word) {
    size_t more = length(word) + 1;
    if (more > LARGEST_CALL - *size)
        return false;
    for (size_t i = 0; i < more; i++)
        packet[*size + i] = word[i];
    *size += more;
    return true;
}

/* Sends what is asked: the stub that Python would start, which says of which version this is, the program that this
   stands before, and its arguments. */
static bool ask(int fd, char **arguments) {
    static char packet[LARGEST_CALL];
    size_t size = 0;
    bool fits = add(packet, &size, MAGIC) && add(packet, &size, block.role) && add(packet, &size, block.stub) &&
                add(packet, &size, block.program);
    for (; fits && *arguments; arguments++)
        fits = add(packet, &size, *arguments);
    return fits && system_call(SENDTO, fd, (long)packet, size, NOSIGNAL, 0) == (long)size;
}

/* Sends "go", with the three standard descriptors. Sent earlier, they would stay open in a socket that nobody reads. */
static bool go(int fd) {
    struct { size_t size; int level, type, fds[STANDARD], padding; } rights = {
        sizeof rights - sizeof rights.padding, SOL_SOCKET_, SCM_RIGHTS_, {0, 1, 2}, 0};
    struct { void *start; size_t size; } piece = {"G", 1};
    struct { void *name; unsigned name_size; void *pieces; size_t count; void *control; size_t control_size; int flags; } message = {
        0, 0, &piece, 1, &rights, sizeof rights, 0};
    return call(SENDMSG, fd, (long)&message, NOSIGNAL, 0) == 1;
}

/* What the other end says, a byte each; docs/resident.md has the order. */
enum word { NOTHING = '\0', READY = 'R', QUEUED = 'Q', NO = 'N', DONE = '0', LAST = '9' };

/* Waits for a packet of one byte, forever with a patience of 0; NOTHING where the other end is closed or has not
   answered in time. One that was closed before it had read all has taken nothing, which is a no. */
static char hear(int fd, int patience) {
    struct { int fd; short events, happened; } wait = {fd, 1, 0};
    struct { long seconds, nanoseconds; } time = {patience / 1000, patience % 1000 * 1000000L};
    char said = NOTHING;
    long n;
    do
        n = call(PPOLL, (long)&wait, 1, patience ? (long)&time : 0, 0);
    while (n == -EINTR_ && !patience);
    if (n != 1)
        return NOTHING;
    n = system_call(RECVFROM, fd, (long)&said, 1, 0, 0);
    return n == 1 ? said : n == -ECONNRESET_ ? NO : NOTHING;
}

/* Has the resident's worker do the work. Ends this process where the work fails, and the worker has said why. */
enum answer ask_resident(char **arguments) {
    if (block.resident[0] != '/' || effective_user() != 0)
        return NOT_SERVED;
    int fd = connect_to(block.resident);
    if (fd < 0)
        return NOT_SERVED;
    char said = NO;
    if (fd >= STANDARD && ask(fd, arguments)) { /* below, it has the place of a descriptor to hand over that is closed */
        said = hear(fd, PATIENCE);
        if (said == QUEUED)
            said = hear(fd, PATIENCE_IN_QUEUE);
        said = said == READY && go(fd) ? hear(fd, 0) : NO;
    }
    close_file(fd);
    if (said > DONE && said <= LAST)
        leave(said - DONE);
    return said == DONE ? SERVED : said == NO ? NOT_SERVED : BROKEN_OFF;
}
