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
};
extern struct block block;

struct text {
    const char *start;
    size_t size;
};

enum whole { WHOLE, TOO_LARGE, BROKEN };

/* system.c */
bool same(const char *a, const char *b);
bool begins(const char *text, const char *start);
size_t length(const char *text);
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
void ignore_broken_pipes(bool ignored);
void close_file(int fd);
void close_above_stderr(void);
bool is_ignored(int signal);
void go_to_root_directory(void);
void fill_standard_descriptors(void);
int execute(const char *path, char **argv, char **envp); /* returns only where it fails: errno */
_Noreturn void leave(int status);
_Noreturn void fail(const char *what, const char *path, const char *why);

/* programs.c */
extern char **environment;
_Noreturn void start_python(const char *extra, char **arguments, bool keep_environment);
_Noreturn void start_program(char **argv);

/* words.c: true wherever the answer is not certainly no */
bool may_ask(struct text json);
bool may_say(struct text json, const char *word);
bool bundle_may_ask(struct text bundle, const char *toml);

/* state.c */
bool find_bundle(struct text state, struct text *bundle);

/* standby.c */
void ask_standby(const char *path, struct text state);

/* one for each role */
_Noreturn void hook(int argc, char **argv);
_Noreturn void runtime(int argc, char **argv);
_Noreturn void mesos(int argc, char **argv);

#endif
