/* What the parts of the simulated libnvidia-ml share. Types and numbers: NVML API, nvml.h. */
#ifndef NVML_H
#define NVML_H

#define SIM_IS_LIBRARY
#include "host.h"

#define API __attribute__((visibility("default")))

typedef const void *nvmlDevice_t; /* points into sim_gpus: to a GPU, or to a MIG device of one */

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18,
    NVML_ERROR_UNKNOWN = 999
};

typedef struct {
    char busIdLegacy[16];
    unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

/* Set by nvmlInit: the GPUs that this process may see, in PCI order. */
extern const struct sim_gpu *nvml_gpus[SIM_GPU_COUNT + 1];
extern unsigned int nvml_gpu_count;
extern unsigned int nvml_users;

/* Returns how many Xid errors of a GPU the file DIR/usage has (nvml_usage.c), and writes one by its number, if there. */
unsigned int nvml_xids(const struct sim_gpu *gpu, unsigned int number, unsigned long long *xid);

static inline const struct sim_gpu *as_gpu(nvmlDevice_t device)
{
    for (unsigned int i = 0; i < nvml_gpu_count; i++)
        if (device == nvml_gpus[i])
            return nvml_gpus[i];
    return NULL;
}

/* Returns the MIG device that a handle stands for and its GPU, or NULL. */
static inline const struct sim_mig *as_mig(nvmlDevice_t device, const struct sim_gpu **parent)
{
    for (unsigned int i = 0; i < nvml_gpu_count; i++)
        for (unsigned int m = 0; m < nvml_gpus[i]->mig_count; m++)
            if (device == &nvml_gpus[i]->mig[m]) {
                *parent = nvml_gpus[i];
                return &nvml_gpus[i]->mig[m];
            }
    return NULL;
}

/* The checks that every call begins with. */
#define NEED(condition, error) \
    do { \
        if (!(condition)) \
            return (error); \
    } while (0)
#define NEED_INIT() NEED(nvml_users, NVML_ERROR_UNINITIALIZED)
#define NEED_GPU(gpu, device, result) \
    NEED_INIT(); \
    const struct sim_gpu *gpu = as_gpu(device); \
    NEED(gpu && (result), NVML_ERROR_INVALID_ARGUMENT)
#define NEED_MIG(mig, parent, device, result) \
    NEED_INIT(); \
    const struct sim_gpu *parent = NULL; \
    const struct sim_mig *mig = as_mig(device, &parent); \
    NEED(mig && (result), NVML_ERROR_INVALID_ARGUMENT)

static inline int nvml_pci_info(const struct sim_gpu *gpu, nvmlPciInfo_t *info)
{
    memset(info, 0, sizeof *info);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:00.0", gpu->domain & 0xffff, gpu->bus & 0xff);
    snprintf(info->busId, sizeof info->busId, "%08X:%02X:00.0", gpu->domain, gpu->bus & 0xff);
    info->domain = gpu->domain;
    info->bus = gpu->bus;
    info->pciDeviceId = gpu->device_id << 16 | 0x10de;
    info->pciSubSystemId = gpu->subsystem_id;
    return NVML_SUCCESS;
}

static inline int nvml_text(char *buffer, unsigned int length, const char *text)
{
    NEED(buffer, NVML_ERROR_INVALID_ARGUMENT);
    NEED(strlen(text) < length, NVML_ERROR_INSUFFICIENT_SIZE);
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

#endif
