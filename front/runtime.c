/* oci-gpu-runtime: Python gets `create` and `run` of a container that may ask for a GPU, and an `update` that may name
   devices. Everything else goes to the real runtime, with the same arguments, environment and descriptors. */
#include "front.h"

/* The options of runc 1.0 to 1.4 and crun 1.0 to 1.23, before and after the command. Of short ones only -b and -d are
   known: the two runtimes read -b=DIR and -bundle differently. */
static const char *const GLOBAL_SWITCHES[] = {"--debug", "--systemd-cgroup", NULL};
static const char *const GLOBAL_VALUES[] = {"--log",  "--log-format", "--log-level",      "--root",
                                            "--criu", "--rootless",   "--cgroup-manager", NULL};
static const char *const SWITCHES[] = {"--no-pivot", "--no-new-keyring", "--no-subreaper", "--no-mount-fallback",
                                       "--detach",   "-d",               "--keep",         NULL};
static const char *const VALUES[] = {"--console-socket", "--pid-file", "--pidfd-socket", "--preserve-fds", NULL};
static const char *const RESOURCES[] = {"--resources", "-r", NULL};
static const char *const BUNDLE[] = {"--bundle", "-b", NULL};

/* Finds an option in a list, as `--name` or `-n` or, with `value` set, as `--name=value`. */
static bool listed(const char *argument, const char *const *names, const char **value) {
    *value = NULL;
    for (; *names; names++) {
        if (!begins(argument, *names))
            continue;
        const char *rest = argument + length(*names);
        if (*rest == '=' && argument[1] == '-')
            *value = rest + 1;
        if (*value || *rest == '\0')
            return true;
    }
    return false;
}

static bool creates(const char *word) {
    return same(word, "create") || same(word, "run");
}

enum command { CREATES, UPDATES, OTHER, UNCLEAR };

/* Finds the command among the arguments; an option that is not listed may take the next word or not. */
static enum command find_command(char **arguments, char ***command) {
    const char *value;
    for (; *arguments; arguments++) {
        if (**arguments != '-') {
            *command = arguments;
            return creates(*arguments) ? CREATES : same(*arguments, "update") ? UPDATES : OTHER;
        }
        if (listed(*arguments, GLOBAL_VALUES, &value)) {
            if (!value && !*++arguments)
                return OTHER;
        } else if (!listed(*arguments, GLOBAL_SWITCHES, &value)) {
            while (*++arguments)
                if (creates(*arguments))
                    return UNCLEAR;
            return OTHER;
        }
    }
    return OTHER;
}

/* Finds the bundle of `create` and `run`; false where an option is not known or a word follows the container's id. */
static bool find_bundle_option(char **arguments, struct text *bundle) {
    const char *value;
    *bundle = (struct text){".", 1};
    for (; *arguments && **arguments == '-'; arguments++) {
        bool is_bundle = listed(*arguments, BUNDLE, &value);
        if (is_bundle || listed(*arguments, VALUES, &value)) {
            if (!value && !(value = *++arguments))
                return false;
            if (is_bundle)
                *bundle = (struct text){value, length(value)};
        } else if (!listed(*arguments, SWITCHES, &value)) {
            return false;
        }
    }
    return *arguments && !arguments[1] && bundle->size != 0;
}

/* Whether what is on stdin may name devices. A memory file takes its place, for the program that follows. */
static bool stdin_may_name_devices(void) {
    static char piece[LARGEST_STATE + 1];
    struct text json = {piece, 0};
    bool may = false;
    enum whole whole;
    int fd = memory_file("oci-resources");
    if (fd <= 0)
        return true; /* nothing is read yet; 0 is that of a stdin that was closed */
    do {
        whole = read_whole(0, true, piece, LARGEST_STATE, &json.size);
        may = may || whole != WHOLE || may_say(json, "devices");
        if (!write_all(fd, piece, json.size))
            fail("resources", "", "cannot be handed to the runtime: no room in memory", "OGH1515");
    } while (whole == TOO_LARGE);
    rewind_file(fd);
    move_to_stdin(fd);
    return may;
}

/* Whether an update may name devices, by its option -r or --resources; without one it changes limits alone. */
static bool update_may_name_devices(char **arguments) {
    static char resources[LARGEST_STATE + 1];
    struct text json = {resources, 0};
    const char *value, *path = NULL;
    for (; *arguments; arguments++) {
        if (listed(*arguments, RESOURCES, &value)) {
            if (!value && !(value = *++arguments))
                return false;
            path = value;
        } else if (begins(*arguments, "-r")) {
            return true;
        }
    }
    if (!path)
        return false;
    if (same(path, "-"))
        return stdin_may_name_devices();
    int fd = open_to_read(path);
    return fd < 0 || !can_rewind(fd) || read_whole(fd, false, resources, LARGEST_STATE, &json.size) != WHOLE || may_say(json, "devices");
}

/* Has Python prepare the bundle in a separate process, and waits for its answer; ends this process where that fails. Python
   then stays to do what the hook of the container is for (entrypoints/runtime_standby.py), and ends with this process, or
   with the real runtime that this one becomes. Returns false where no process can be made, and nothing has been done. */
static bool prepare(char **arguments) {
    static char option[32] = "--prepare-for-front=";
    struct child child;
    if (!fork_child(&child))
        return false;
    if (child.pid == 0) {
        const char *digits = in_decimal(child.word);
        char *end = option + length(option);
        while ((*end++ = *digits++))
            ;
        start_python(option, arguments, false);
    }
    char word = word_of(&child);
    if (word == '0')
        return true;
    int status = word > '0' && word <= '9' ? word - '0' : word ? -1 : status_of(&child);
    if (status > 0)
        leave(status); /* it has said why */
    start_python(PREPARING_ENDED, arguments, true);
}

_Noreturn void runtime(int argc, char **argv) {
    char **command = NULL;
    struct text bundle;
    enum command kind = argc > 0 ? find_command(argv + 1, &command) : OTHER;
    if (kind == OTHER)
        start_program(argv);
    if (kind == CREATES && find_bundle_option(command + 1, &bundle) &&
        !bundle_may_ask(bundle, "/etc/oci-gpu-hook/config.toml"))
        start_program(argv);
    if (kind == UPDATES && !update_may_name_devices(command + 1))
        start_program(argv);
    enum answer answer = kind == CREATES ? ask_resident(argv + 1) : NOT_SERVED;
    if (answer == SERVED) /* the bundle is prepared */
        start_program(argv);
    if (answer == BROKEN_OFF)
        start_python(RESIDENT_ENDED, argv + 1, true);
    if (kind != UPDATES && prepare(argv + 1))
        start_program(argv);
    start_python(NULL, argv + 1, true);
}
