/* nvidia-smi of a simulated host: linked statically, so that it runs in containers that have no C library.
 *
 * It shows the GPUs that the process may see, in the words of the real program; under the name of another program of
 * the driver it says that there is nothing to do.
 */
#include "host.h"

enum { EXIT_USAGE = 2, EXIT_NO_DEVICE = 6, EXIT_NO_DRIVER = 9, EXIT_MISMATCH = 18 }; /* as nvidia-smi(1) lists them */

static const struct sim_gpu *visible[SIM_GPU_COUNT + 1];
static int count;

/* NVML's version as the real program shows it: the first two numbers of the driver's. */
static const char *nvml_version(void)
{
    static char text[64] = SIM_DRIVER_VERSION;
    char *dot = strchr(text, '.');

    dot = dot ? strchr(dot + 1, '.') : NULL;
    if (dot)
        *dot = 0;
    return text;
}

static int look(void)
{
    if (!sim_driver_loaded()) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
             "Make sure that the latest NVIDIA driver is installed and running.\n");
        return EXIT_NO_DRIVER;
    }
    if (strcmp(sim_kernel_version(), SIM_DRIVER_VERSION)) {
        printf("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: %s\n", nvml_version());
        return EXIT_MISMATCH;
    }
    for (int i = 0; i < SIM_GPU_COUNT; i++)
        if (sim_gpu_visible(&sim_gpus[i]))
            visible[count++] = &sim_gpus[i];
    if (!count) {
        puts("No devices were found");
        return EXIT_NO_DEVICE;
    }
    return EXIT_SUCCESS;
}

static void list(void)
{
    for (int i = 0; i < count; i++) {
        unsigned int device = 0;
        if (sim_gpu_lost(visible[i])) {
            printf("Unable to determine the device handle for GPU%d: %08X:%02X:00.0: GPU is lost.  "
                   "Reboot the system to recover this GPU\n", i, visible[i]->domain, visible[i]->bus);
            continue;
        }
        printf("GPU %d: %s (UUID: %s)\n", i, visible[i]->name, visible[i]->uuid);
        for (unsigned int m = 0; m < visible[i]->mig_count; m++)
            if (sim_mig_visible(&visible[i]->mig[m]))
                printf("  MIG %-12sDevice %2u: (UUID: %s)\n", visible[i]->mig[m].profile, device++,
                       visible[i]->mig[m].uuid);
    }
}

static void summary(void)
{
    static const char rule[] = "+-----------------------------------------------------------------------------------------+";

    printf("%s\n| NVIDIA-SMI %-20s Driver Version: %-15s CUDA Version: %2d.%-6d |\n%s\n", rule, SIM_DRIVER_VERSION,
           SIM_DRIVER_VERSION, SIM_CUDA_VERSION / 1000, SIM_CUDA_VERSION % 1000 / 10, rule);
    printf("| GPU  %-32s Bus-Id %22s %-19s |\n%s\n", "Name", "Memory", "", rule);
    for (int i = 0; i < count; i++)
        printf("| %3d  %-32s %08X:%02X:00.0 %9lluMiB %-19s |\n", i, visible[i]->name, visible[i]->domain,
               visible[i]->bus, visible[i]->memory, visible[i]->mig_enabled ? "MIG enabled" : "");
    printf("%s\nSimulated by oci-gpu: no GPU is behind these names.\n", rule);
}

static int print_field(const char *field, int index, int header, int units)
{
    const struct sim_gpu *gpu = visible[index];

    if (!strcmp(field, "index"))
        header ? printf("index") : printf("%d", index);
    else if (!strcmp(field, "name") || !strcmp(field, "gpu_name"))
        printf("%s", header ? "name" : gpu->name);
    else if (!strcmp(field, "uuid") || !strcmp(field, "gpu_uuid"))
        printf("%s", header ? "uuid" : gpu->uuid);
    else if (!strcmp(field, "driver_version"))
        printf("%s", header ? "driver_version" : SIM_DRIVER_VERSION);
    else if (!strcmp(field, "count"))
        header ? printf("count") : printf("%d", count);
    else if (!strcmp(field, "pci.bus_id") || !strcmp(field, "gpu_bus_id"))
        header ? printf("pci.bus_id") : printf("%08X:%02X:00.0", gpu->domain, gpu->bus);
    else if (!strcmp(field, "memory.total"))
        header ? printf("memory.total%s", units ? " [MiB]" : "") : printf("%llu%s", gpu->memory, units ? " MiB" : "");
    else if (!strcmp(field, "compute_cap"))
        header ? printf("compute_cap") : printf("%u.%u", gpu->capability_major, gpu->capability_minor);
    else if (!strcmp(field, "mig.mode.current"))
        printf("%s", header             ? "mig.mode.current"
                     : !gpu->mig_capable ? "[N/A]"
                     : gpu->mig_enabled  ? "Enabled"
                                         : "Disabled");
    else
        return 0;
    return 1;
}

static int query(const char *fields, const char *format)
{
    int header = !strstr(format, "noheader"), units = !strstr(format, "nounits");

    for (int row = header ? -1 : 0; row < count; row++) {
        char text[1024], *rest = text, *field;
        snprintf(text, sizeof text, "%s", fields);
        while ((field = strsep(&rest, ","))) {
            field += strspn(field, " ");
            if (!print_field(field, row < 0 ? 0 : row, row < 0, units)) {
                printf("Field \"%s\" is not a valid field to query.\n", field);
                return EXIT_USAGE;
            }
            fputs(rest ? ", " : "\n", stdout);
        }
    }
    return EXIT_SUCCESS;
}

static int usage(int status)
{
    puts("nvidia-smi " SIM_DRIVER_VERSION " of a simulated host\n\n"
         "  nvidia-smi                                   a summary\n"
         "  nvidia-smi -L | --list-gpus                  the GPUs and MIG devices, with their UUIDs\n"
         "  nvidia-smi --query-gpu=FIELD,… --format=csv[,noheader][,nounits]\n"
         "      index name uuid driver_version count pci.bus_id memory.total compute_cap mig.mode.current\n"
         "  nvidia-smi --version");
    return status;
}

int main(int argc, char **argv)
{
    const char *slash = argc ? strrchr(argv[0], '/') : NULL;
    const char *name = slash ? slash + 1 : argc ? argv[0] : "nvidia-smi";
    const char *first = argc > 1 ? argv[1] : "", *fields = NULL, *format = NULL;
    int status;

    if (strcmp(name, "nvidia-smi")) {
        printf("%s " SIM_DRIVER_VERSION ": part of a simulated host; it does nothing\n", name);
        return EXIT_SUCCESS;
    }
    if (!strcmp(first, "-h") || !strcmp(first, "--help"))
        return usage(EXIT_SUCCESS);
    if (!strcmp(first, "--version")) {
        printf("NVIDIA-SMI version  : %s\nNVML version        : %s\nDRIVER version      : %s\nCUDA Version        : %d.%d\n",
               SIM_DRIVER_VERSION, nvml_version(), sim_kernel_version(), SIM_CUDA_VERSION / 1000,
               SIM_CUDA_VERSION % 1000 / 10);
        return EXIT_SUCCESS;
    }
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--query-gpu=", 12))
            fields = argv[i] + 12;
        else if (!strncmp(argv[i], "--format=csv", 12))
            format = argv[i] + 12;
        else if (strcmp(argv[i], "-L") && strcmp(argv[i], "--list-gpus"))
            return usage(EXIT_USAGE);
    }
    if (!fields != !format)
        return usage(EXIT_USAGE);
    status = look();
    if (status)
        return status;
    if (fields)
        return query(fields, format);
    if (argc > 1)
        list();
    else
        summary();
    return EXIT_SUCCESS;
}
