/* The facts of the simulated host, and which of its GPUs the calling process may see.
 *
 * Generated for each host: facts.h with SIM_LIBRARIES, SIM_PROGRAMS, SIM_CONTROL, SIM_NODES, SIM_DRIVER_VERSION,
 * SIM_NVML_VERSION, SIM_CUDA_VERSION and SIM_GPU_COUNT, and facts.c with the table sim_gpus.
 *
 * Loaded from DIR/driver/…, this code is on the simulated host, whose /dev and /proc lie in DIR. Loaded from anywhere
 * else it is in a container, whose own /dev and /proc count: just what it was granted. A node that the device cgroup
 * lets through fails with ENXIO, because no driver answers; one that it refuses fails with EPERM.
 */
#ifndef HOST_H
#define HOST_H

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIM_MOST_MIG 7

struct sim_mig {
    const char *uuid, *profile;
    unsigned int gpu_instance, compute_instance, gpu_instance_minor, compute_instance_minor;
    unsigned int compute_slices, multiprocessors;
    unsigned long long memory; /* MiB */
};

struct sim_gpu {
    const char *uuid, *name;
    const char *node; /* below /dev, where it is not nvidiaN */
    unsigned int integrated; /* 1 for one of a chip, that has no place on a PCI bus */
    unsigned int minor, sick, domain, bus, slot, numa_node, device_id, subsystem_id;
    unsigned int card, render; /* numbers in /dev/dri */
    unsigned int brand, architecture, capability_major, capability_minor;
    unsigned int multiprocessors, slice_multiprocessors, nvlinks;
    int peer; /* index of the GPU at the other end of the NVLinks, -1 for none */
    unsigned long long memory; /* MiB */
    unsigned int mig_capable, mig_enabled, mig_count;
    unsigned int forward_compatible; /* whether CUDA's compatibility libraries serve it */
    struct sim_mig mig[SIM_MOST_MIG];
};

#include "facts.h"

extern const struct sim_gpu sim_gpus[SIM_GPU_COUNT + 1];

static inline int sim_exists(const char *path) { return access(path, F_OK) == 0; }

/* Writes the path of the file that this code was loaded from. */
static inline int sim_own_path(char path[PATH_MAX])
{
#ifdef SIM_IS_LIBRARY
    Dl_info own;
    return dladdr(sim_gpus, &own) && own.dli_fname && realpath(own.dli_fname, path);
#else
    return realpath("/proc/self/exe", path) != NULL;
#endif
}

/* Returns DIR on the simulated host, "" in a container. */
static inline const char *sim_root(void)
{
    static char root[PATH_MAX];
    static int known;
#ifdef SIM_IS_LIBRARY
    static const char below[] = "/driver" SIM_LIBRARIES;
#else
    static const char below[] = "/driver" SIM_PROGRAMS;
#endif
    char *end;

    if (known)
        return root;
    known = 1;
    if (sim_own_path(root)) {
        end = strrchr(root, '/');
        *end = 0;
        if ((size_t)(end - root) >= sizeof below && !strcmp(end - (sizeof below - 1), below)) {
            end[-(ptrdiff_t)(sizeof below - 1)] = 0;
            return root;
        }
    }
    root[0] = 0;
    return root;
}

static inline int sim_let_through(int flags, const char *node)
{
    char path[PATH_MAX + 64];
    int fd;

    snprintf(path, sizeof path, "%s/dev/%s", sim_root(), node);
    fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == ENXIO || errno == ENODEV || (!SIM_NODES && errno == ENOENT && *sim_root());
}

static inline int sim_driver_loaded(void) { return sim_let_through(O_RDWR, SIM_CONTROL); }

/* Returns the kernel modules' version, or the libraries' own where procfs does not tell. */
static inline const char *sim_kernel_version(void)
{
    static char line[512], version[64];
    char path[PATH_MAX + 64];
    FILE *file;
    char *at;

    snprintf(path, sizeof path, "%s/proc/driver/nvidia/version", sim_root());
    file = fopen(path, "re");
    if (!file)
        return SIM_DRIVER_VERSION;
    at = fgets(line, sizeof line, file);
    fclose(file);
    at = at ? strstr(at, "  ") : NULL;
    return at && sscanf(at, " %63s", version) == 1 ? version : SIM_DRIVER_VERSION;
}

static inline int sim_gpu_visible(const struct sim_gpu *gpu)
{
    char path[PATH_MAX + 64], node[32];

    if (gpu->sick)
        return 0;
    snprintf(path, sizeof path, "%s/proc/driver/nvidia/gpus", sim_root());
    if (sim_exists(path)) {
        size_t length = strlen(path);
        snprintf(path + length, sizeof path - length, "/%04x:%02x:00.0", gpu->domain, gpu->bus);
        if (!sim_exists(path))
            return 0;
    }
    snprintf(node, sizeof node, "nvidia%u", gpu->minor);
    return sim_let_through(O_RDWR, *gpu->node ? gpu->node : node);
}

/* Whether the GPU has fallen off the bus: its configuration space reads as ones. In a container nobody looks. */
static inline int sim_gpu_lost(const struct sim_gpu *gpu)
{
    unsigned char header[8] = {0};
    char path[PATH_MAX + 64];
    FILE *file;
    size_t i = 0;

    if (!*sim_root())
        return 0;
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%04x:%02x:00.0/config", sim_root(), gpu->domain, gpu->bus);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (fread(header, 1, sizeof header, file) == sizeof header)
        while (i < sizeof header && header[i] == 0xff)
            i++;
    fclose(file);
    return i == sizeof header;
}

static inline int sim_mig_visible(const struct sim_mig *mig)
{
    char instance[64], compute[64];

    snprintf(instance, sizeof instance, "nvidia-caps/nvidia-cap%u", mig->gpu_instance_minor);
    snprintf(compute, sizeof compute, "nvidia-caps/nvidia-cap%u", mig->compute_instance_minor);
    return sim_let_through(O_RDONLY, instance) && sim_let_through(O_RDONLY, compute);
}

#endif
