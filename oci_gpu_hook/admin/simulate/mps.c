/* nvidia-cuda-mps-control and nvidia-cuda-mps-server of a simulated host, linked statically.
 *
 * `nvidia-cuda-mps-control -d` starts the daemon; without an argument it passes commands from stdin to the daemon of its
 * pipe directory. Commands as in NVIDIA's Multi-Process Service, "nvidia-cuda-mps-control": set_default_… and
 * get_default_active_thread_percentage, …_device_pinned_mem_limit, get_server_list, quit. libcuda asks it by `client
 * UUID` for its limits (mps.h); the first client starts a server, as the real daemon does.
 *
 * DIR/mps, if it exists, makes the daemon sick: `refuses` to start, `hangs` while starting, `dies` when started, `deaf`
 * to limits, `mute` to all commands.
 */
#include "host.h"
#include "mps.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MOST_GPUS = 64 };
static long long memory[MOST_GPUS]; /* MiB, 0 for no limit */
static int cores = 100;
static char sickness[32];
static pid_t server;

static void look_for_sickness(void)
{
    char path[PATH_MAX + 8];
    FILE *file;

    snprintf(path, sizeof path, "%s/mps", sim_root());
    file = fopen(path, "re");
    if (!file)
        return;
    if (fscanf(file, "%31s", sickness) != 1)
        sickness[0] = 0;
    fclose(file);
}

static int is_sick(const char *how) { return !strcmp(sickness, how); }

static int place_of(const char *uuid)
{
    const char *listed = getenv("CUDA_VISIBLE_DEVICES");
    int place = 0;

    for (; listed && *listed; place++) {
        size_t length = strcspn(listed, ",");
        if (length == strlen(uuid) && !memcmp(listed, uuid, length))
            return place;
        listed += length + (listed[length] == ',');
    }
    return -1;
}

static void start_server(void)
{
    char path[PATH_MAX];
    char *end;

    if (server && !kill(server, 0))
        return;
    server = fork();
    if (server)
        return;
    if (!realpath("/proc/self/exe", path) || !(end = strrchr(path, '/')))
        _exit(1);
    strcpy(end + 1, "nvidia-cuda-mps-server");
    execl(path, path, (char *)NULL);
    _exit(1);
}

static void obey(char *line, FILE *out)
{
    char uuid[128], amount[64];
    int device, value;

    if (is_sick("mute"))
        return;
    if (sscanf(line, "client %127s", uuid) == 1) {
        device = place_of(uuid);
        start_server();
        fprintf(out, "%lld %d\n", device < 0 ? -1 : memory[device], cores);
    } else if (is_sick("deaf") && !strncmp(line, "set_", 4)) {
        fprintf(out, "Failed to set the limit\n");
    } else if (sscanf(line, "set_default_active_thread_percentage %d", &value) == 1) {
        cores = value;
        fprintf(out, "%d.0\n", cores);
    } else if (!strcmp(line, "get_default_active_thread_percentage")) {
        fprintf(out, "%d.0\n", cores);
    } else if (sscanf(line, "set_default_device_pinned_mem_limit %d %63s", &device, amount) == 2 && device >= 0 &&
               device < MOST_GPUS) {
        memory[device] = sim_mps_amount(amount);
    } else if (sscanf(line, "get_default_device_pinned_mem_limit %d", &device) == 1 && device >= 0 &&
               device < MOST_GPUS) {
        fprintf(out, "%lldM\n", memory[device]);
    } else if (!strcmp(line, "get_server_list")) {
        if (server && !kill(server, 0))
            fprintf(out, "%d\n", (int)server);
    } else if (!strncmp(line, "quit", 4)) {
        if (server)
            kill(server, SIGKILL);
        exit(0);
    } else {
        fprintf(out, "Invalid command: %s\n", line);
    }
}

static void serve(int listening)
{
    char line[512];

    for (;;) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        FILE *in = fd >= 0 ? fdopen(fd, "r") : NULL, *out = fd >= 0 ? fdopen(fcntl(fd, F_DUPFD_CLOEXEC, 3), "w") : NULL;
        while (in && out && fgets(line, sizeof line, in)) {
            line[strcspn(line, "\n")] = 0;
            obey(line, out);
            fflush(out);
        }
        if (in)
            fclose(in);
        if (out)
            fclose(out);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

static void report(const char *text)
{
    const char *directory = getenv("CUDA_MPS_LOG_DIRECTORY");
    char path[PATH_MAX];
    FILE *log;

    snprintf(path, sizeof path, "%s/control.log", directory ? directory : "/var/log/nvidia-mps");
    log = fopen(path, "ae");
    if (!log)
        return;
    fprintf(log, "[simulated] Control %d: %s\n", (int)getpid(), text);
    fclose(log);
}

static int start(void)
{
    const char *directory = sim_mps_directory();
    struct sockaddr_un address;
    FILE *file;
    int listening, ready[2];
    char byte;

    if (is_sick("refuses")) {
        report("Failed to start: the GPU is in a mode without MPS");
        return 1;
    }
    if (is_sick("hangs"))
        for (;;)
            pause();
    mkdir(directory, 0755);
    if (chdir(directory) || pipe(ready))
        return 1;
    if (fork()) {
        close(ready[1]);
        return read(ready[0], &byte, 1) == 1 ? 0 : 1;
    }
    setsid();
    signal(SIGPIPE, SIG_IGN);
    listening = sim_mps_socket("control", &address);
    unlink("control");
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 64))
        _exit(1);
    chmod("control", 0666);
    file = fopen("nvidia-cuda-mps-control.pid", "we");
    if (file) {
        fprintf(file, "%d\n", (int)getpid());
        fclose(file);
    }
    report("Starting control daemon");
    if (write(ready[1], "", 1) != 1 || is_sick("dies"))
        _exit(1);
    close(ready[0]);
    close(ready[1]);
    serve(listening);
    return 0;
}

static int pass_on(void)
{
    char line[512];
    struct sockaddr_un address;
    int fd = -1, more = 1;
    FILE *answers;

    if (!chdir(sim_mps_directory()))
        fd = sim_mps_socket("control", &address);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) {
        puts("Cannot find MPS control daemon process");
        return 1;
    }
    while (more && fgets(line, sizeof line, stdin))
        more = write(fd, line, strlen(line)) > 0;
    shutdown(fd, SHUT_WR);
    answers = fdopen(fd, "r");
    while (answers && fgets(line, sizeof line, answers))
        fputs(line, stdout);
    return 0;
}

int main(int count, char **arguments)
{
    const char *name = strrchr(arguments[0], '/');

    name = name ? name + 1 : arguments[0];
    if (!strcmp(name, "nvidia-cuda-mps-server"))
        for (;;)
            pause();
    look_for_sickness();
    if (count == 1)
        return pass_on();
    return strcmp(arguments[1], "-d") ? 2 : start();
}
