/* mesos-containerizer: Python gets every launch that may have a root file system, and the command that it adds to such a
   launch. Everything else goes to the real helper, with the same arguments, environment and descriptors. */
#include "front.h"

/* The launch information is JSON, in a variable (the agent's launches) or an argument (the command executor's). A
   container with an image has the member "rootfs" in it, and nothing more is looked for: a task's `gpus` is not in the
   launch information but in the agent's checkpoint, which Python reads. */
static bool may_have_rootfs(char **arguments) {
    for (char **text = arguments; *text; text++)
        if (begins(*text, "--") && may_say((struct text){*text, length(*text)}, "\"rootfs\""))
            return true;
    for (char **text = environment; *text; text++)
        if (begins(*text, "MESOS_CONTAINERIZER_") && may_say((struct text){*text, length(*text)}, "\"rootfs\""))
            return true;
    return false;
}

/* Writes which of the two signals are ignored that CPython ignores when it starts: the real helper gets them as they were. */
static bool keep_ignored_signals(int fd) {
    enum { SIGPIPE_ = 13, SIGXFSZ_ = 25 };
    return (!is_ignored(SIGPIPE_) || write_all(fd, "13 ", 3)) && (!is_ignored(SIGXFSZ_) || write_all(fd, "25 ", 3)) &&
           write_all(fd, "", 1);
}

/* The pre-exec command that Python adds to a launch (oci_gpu_hook/entrypoints/mesos/attach.py). It runs as root on the
   host, in the helper's environment, which may be the task's own. */
static _Noreturn void attach_gpus(char **argv) {
    close_above_stderr();
    go_to_root_directory();
    start_python("attach-gpus", argv + 2, false);
}

_Noreturn void mesos(int argc, char **argv) {
    if (argc > 1 && same(argv[1], "attach-gpus"))
        attach_gpus(argv);
    if (argc < 2 || !same(argv[1], "launch") || !may_have_rootfs(argv + 2))
        start_program(argv);
    /* The environment may be the task's own while this runs as root on the host (CVE-2025-23266's shape): no loader
       and no interpreter gets to read it. The real helper gets it back from Python. */
    int fd = memory_file("environment");
    bool kept = fd >= 0 && keep_ignored_signals(fd);
    for (char **entry = environment; kept && *entry; entry++)
        kept = write_all(fd, *entry, length(*entry) + 1);
    if (!kept)
        fail("environment", "", "cannot be kept: no memory file (memfd_create); give the agent more open files", "OGH1515");
    rewind_file(fd);
    start_python(in_decimal(fd), argv, false);
}
