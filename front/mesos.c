/* mesos-containerizer: a launch that may have a root file system goes to Python; all else to the real helper,
   with the same arguments, environment and descriptors. */
#include "front.h"

/* The launch information is JSON, in a variable (the agent's launches) or an argument (the command executor's). A
   container with an image has the member "rootfs" in it. That is all that is asked here: a task's `gpus` leaves no
   word in the launch information, only in what the agent has checkpointed, which Python reads. */
static bool may_have_rootfs(char **arguments) {
    for (char **text = arguments; *text; text++)
        if (begins(*text, "--") && may_say((struct text){*text, length(*text)}, "\"rootfs\""))
            return true;
    for (char **text = environment; *text; text++)
        if (begins(*text, "MESOS_CONTAINERIZER_") && may_say((struct text){*text, length(*text)}, "\"rootfs\""))
            return true;
    return false;
}

static char *in_decimal(int number) {
    static char text[12];
    char *digit = text + sizeof text - 1;
    do
        *--digit = '0' + number % 10;
    while (number /= 10);
    return digit;
}

_Noreturn void mesos(int argc, char **argv) {
    if (argc < 2 || !same(argv[1], "launch") || !may_have_rootfs(argv + 2))
        start_program(argv);
    /* The environment may be the task's own while this runs as root on the host (CVE-2025-23266's shape): no loader
       and no interpreter gets to read it. The real helper gets it back from Python. */
    int fd = memory_file("environment");
    bool kept = fd >= 0;
    for (char **entry = environment; kept && *entry; entry++)
        kept = write_all(fd, *entry, length(*entry) + 1);
    if (!kept)
        fail("environment", "", "cannot be kept: no memory file (memfd_create)");
    rewind_file(fd);
    start_python(in_decimal(fd), argv, false);
}
