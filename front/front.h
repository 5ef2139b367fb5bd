/* The front: a static executable that stands before the Python hook. docs/front.md says why. */
#ifndef FRONT_H
#define FRONT_H

#include <stdbool.h>
#include <stddef.h>

enum {
    LARGEST_PATH = 4096,
    LARGEST_STATE = 1 << 20,   /* container.LARGEST_STATE of the Python hook: the two must agree */
    LARGEST_CONFIG = 4 << 20,  /* a bigger config.json is the Python hook's to read */
    LARGEST_TOML = 64 << 10,
    LARGEST_NAME = 256,
    LARGEST_ENTRY = 256 << 10, /* of the journal; cleaning up by a bigger one is the Python hook's */
    LARGEST_LEASES = 2 << 20,  /* limits.LEASES */
    MOST_ARGUMENTS = 1024,     /* that reach Python; the real programs take as many as the kernel gives */
};

/* What `oci-gpu hook-path` writes into its copy of this executable. The file's own name cannot tell: the executable
   may run from a sealed memfd, and /proc/self/exe says nothing then. admin/install/executables.py knows this layout. */
struct block {
    char magic[16];
    char role[16];           /* hook, runtime or mesos */
    char interpreter[1024];  /* absolute paths, each ended by NUL */
    char stub[1024];
    char program[1024];      /* the real runtime or the real mesos-containerizer */
    char resident[1024];     /* the socket of the process that may do Python's work */
};
extern struct block block;

struct text {
    const char *start;
    size_t size;
};

struct cursor { /* of a scanner */
    const char *at, *end;
};

struct state { /* of the OCI runtime specification; what it lacks has no start */
    struct text id, bundle, status;
};

struct found { /* what is at a path, as statx(2) says */
    unsigned type, mode, uid;
    unsigned long device, inode, size, born, changed; /* times in nanoseconds; born: 0 where that is not known */
    unsigned long numbers; /* of a device node, in the form of Python's os.makedev, as `device` is */
    unsigned long mount;
};

enum {
    A_DIRECTORY = 0040000,
    A_NODE = 0020000, /* of a character device */
    A_FILE = 0100000,
    A_LINK = 0120000,
};

enum whole { WHOLE, TOO_LARGE, BROKEN };

/* system.c */
bool same(const char *a, const char *b);
bool begins(const char *text, const char *start);
size_t length(const char *text);
bool is(struct text text, const char *word);
bool equal(struct text a, struct text b);
bool starts_with(struct text text, struct text start);
bool has(struct text text, struct text part); /* part: not empty */
struct text text_of(const char *word);
bool number_of(struct text digits, unsigned long *value);
int open_to_read(const char *path); /* a descriptor or minus errno */
enum whole read_whole(int fd, bool patient, char *buffer, size_t limit, size_t *size);
int memory_file(const char *name); /* a descriptor that Python inherits, or minus errno */
bool write_all(int fd, const char *data, size_t size);
bool hand_over(int fd, const char *data, size_t size); /* as write_all, and waits for who reads */
void rewind_file(int fd);
bool can_rewind(int fd);
void move_to_stdin(int fd);
int open_own_fifo(const char *path, bool to_write); /* a descriptor that never waits, or minus errno */
long read_some(int fd, char *buffer, size_t size); /* waits; 0 at the end, negative where it is broken */
void wait_for_end(int fd, int patience); /* until nobody writes to the FIFO any more; in milliseconds */
void ignore_broken_pipes(bool ignored);
unsigned effective_user(void);
void close_file(int fd);
void close_above_stderr(void);
bool is_ignored(int signal);
void let_alarm_end(void); /* SIGALRM ends this process, whatever was inherited */
void go_to_root_directory(void);
void fill_standard_descriptors(void);
int execute(const char *path, char **argv, char **envp); /* returns only where it fails: errno */
char *in_decimal(int number); /* overwritten by the next call */
_Noreturn void leave(int status);
_Noreturn void fail(const char *what, const char *path, const char *why, const char *code);

/* programs.c */
extern char **environment;
_Noreturn void start_python(const char *extra, char **arguments, bool keep_environment);
_Noreturn void start_program(char **argv);

/* children.c */
struct child {
    long pid;
    int word;
};
bool fork_child(struct child *child);
char word_of(const struct child *child);
int status_of(const struct child *child);

/* words.c: true wherever the answer is not certainly no */
bool may_ask(struct text json);
bool may_say(struct text json, const char *word);
bool bundle_may_ask(struct text bundle, const char *toml);

/* json.c: what takes or skips returns false for anything else, and the cursor is then useless */
bool is_space(char c);
char next_byte(struct cursor *cursor);
bool take(struct cursor *cursor, char expected);
bool take_string(struct cursor *cursor, struct text *value, bool *plain);
bool take_number(struct cursor *cursor, unsigned long *value);
bool take_truth(struct cursor *cursor, bool *value);
bool skip(struct cursor *cursor);

/* state.c */
bool read_state(struct text json, struct state *state);

/* settings.c */
bool find_state_directory(const char *toml, char *directory); /* of LARGEST_PATH bytes */

/* files.c: what returns an int returns a descriptor, or 0, or minus errno */
int open_in(int directory, const char *path, int flags);
int open_below(int root, const char *path, int flags); /* openat2(2): no path leads out of `root` */
int create_in(int directory, const char *name);
int look_in(int directory, const char *name, struct found *found); /* no link is followed */
int look_at(int fd, struct found *found);
bool is_trusted(const struct found *found); /* whether root alone can have written it */
bool read_trusted(int directory, const char *name, char *buffer, size_t limit, size_t *size, struct found *found);
int remove_from(int directory, const char *name, bool is_directory);
int rename_in(int directory, const char *name, const char *other);
int set_mode(int fd, unsigned mode);
long read_link(int directory, const char *name, char *target, size_t size);
long file_system_of(int fd);
bool lock_byte(int fd, unsigned long offset, int patience); /* patience: in milliseconds */
bool lock_file(int fd, int patience);
void end_in(int seconds); /* has the kernel end this process; 0: not any more */

struct names { /* of a directory that is listed */
    int directory;
    long size, at;
    char entries[32 << 10];
};
const char *next_name(struct names *names); /* NULL at the end, and where `size` is negative: it cannot be listed */

/* processes.c */
enum life { ENDED, LIVES, UNKNOWN };
enum life life_of(unsigned long pid, unsigned long started);
bool is_root_of_host(void);
bool sees_all_processes(void);
struct text boot_id(void); /* empty where it cannot be read */

/* leases.c: drops those of an ended container; false: nothing is changed, or all is done and Python is to look again */
bool drop_leases(int directory, struct text id);

/* ended.c */
enum ended { HAD_NOTHING, TAKEN_BACK, UNSURE };
enum ended end_container(const struct state *state, const char *toml);

/* Of another process that does Python's work: nothing has been done, all has been done, or it has ended and anything may
   have been done. In the last case Python is started to report that wherever errors belong, with an option that names the
   process (ENDED of entrypoints/hook.py). */
enum answer { NOT_SERVED, SERVED, BROKEN_OFF };
#define RESIDENT_ENDED "--ended=resident"
#define STANDBY_ENDED "--ended=standby"
#define PREPARING_ENDED "--ended=preparing"

/* standby.c: ends this process where the other has done the work */
enum answer ask_standby(const char *path, struct text state);

/* resident.c */
enum answer ask_resident(char **arguments);

/* one for each role */
_Noreturn void hook(int argc, char **argv);
_Noreturn void runtime(int argc, char **argv);
_Noreturn void mesos(int argc, char **argv);

#endif
