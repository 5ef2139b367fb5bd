/* oci-gpu-hook: answers for containers that ask for nothing, and passes every other call on to Python unchanged. */
#include "front.h"

static char text[LARGEST_STATE + 1];

/* Python reads from its stdin what this process has read from its own. */
static void put_back(size_t size) {
    int fd = memory_file("oci-state");
    if (fd < 0 || !write_all(fd, text, size))
        fail("OCI state", "", "cannot be handed to the hook: no memory file (memfd_create); give the engine more open files", "OGH1515");
    rewind_file(fd);
    move_to_stdin(fd);
}

static _Noreturn void ask_python(const char *extra, char **argv) {
    close_above_stderr();
    start_python(extra, argv + 1, false);
}

/* Ends this process where there is nothing to do, or where it is done here. An engine that has one argument list for all
   stages says by the status that the container has ended. */
static void answer(const struct state *state, struct text json, const char *stage, const char *toml) {
    bool has_ended = same(stage, "poststop") || (state->status.start && is(state->status, "stopped"));
    enum ended ended = has_ended ? end_container(state, toml) : HAD_NOTHING;
    if (ended == TAKEN_BACK || (ended == HAD_NOTHING && !may_ask(json) && !bundle_may_ask(state->bundle, toml)))
        leave(0);
}

_Noreturn void hook(int argc, char **argv) {
    const char *toml = "/etc/oci-gpu-hook/config.toml";
    const char *stage = argc > 1 ? argv[argc - 1] : "", *standby = NULL;
    go_to_root_directory(); /* an engine may start hooks in the rootfs */
    if (argc == 4 && same(argv[1], "--config"))
        toml = argv[2];
    else if (argc == 4 && same(argv[1], "--standby"))
        standby = argv[2];
    else if (argc == 3 && begins(argv[1], "--config="))
        toml = argv[1] + sizeof "--config=" - 1;
    else if (argc != 2)
        ask_python(NULL, argv);
    if (*toml != '/' || (!same(stage, "prestart") && !same(stage, "createRuntime") && !same(stage, "poststop")))
        ask_python(NULL, argv);

    struct text json = {text, 0};
    struct state state;
    enum whole whole = read_whole(0, true, text, LARGEST_STATE, &json.size);
    if (whole == WHOLE && standby && same(stage, "prestart") && ask_standby(standby, json) == BROKEN_OFF) {
        put_back(json.size);
        ask_python(STANDBY_ENDED, argv);
    }
    if (whole == WHOLE && read_state(json, &state))
        answer(&state, json, stage, toml);
    if (json.size)
        put_back(json.size);
    enum answer answer_of_resident = whole == WHOLE && json.size ? ask_resident(argv + 1) : NOT_SERVED;
    if (answer_of_resident == SERVED)
        leave(0);
    if (answer_of_resident == BROKEN_OFF) {
        rewind_file(0);
        ask_python(RESIDENT_ENDED, argv);
    }
    ask_python(NULL, argv);
}
