/* The two ways to start another program: Python with the hook, and the program that this executable stands in for. */
#include "front.h"

char **environment;

static _Noreturn void become(const char *path, char **argv, char **envp) {
    int status = execute(path, argv, envp);
    static char number[] = "errno 000; run `oci-gpu hook-path` to install the executables again";
    for (char *digit = number + 8; status; status /= 10)
        *digit-- += status % 10;
    fail("cannot start ", path, number, "OGH1511");
}

/* Runs the stub: -I no environment, no user's or script's directory on the path; -S no site, where every .pth file of
   the host would run; -B nothing written; utf8 because the C locale has no encoding for names. */
_Noreturn void start_python(const char *extra, char **arguments, bool keep_environment) {
    static char *argv[MOST_ARGUMENTS + 5];
    static char *clean[] = {"LC_ALL=C", NULL}; /* without it CPython looks for C.UTF-8 and loads that (PEP 538) */
    char **next = argv;
    *next++ = block.interpreter;
    *next++ = "-ISBXutf8";
    *next++ = block.stub;
    if (extra)
        *next++ = (char *)extra;
    while (*arguments && next < argv + MOST_ARGUMENTS + 4)
        *next++ = *arguments++;
    if (*arguments)
        fail("arguments", "", "more than 1024 of them", "OGH1003");
    become(block.interpreter, argv, keep_environment ? environment : clean);
}

_Noreturn void start_program(char **argv) {
    become(block.program, argv, environment);
}
