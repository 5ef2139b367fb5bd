/* libcuda.so of a simulated host: what a program asks before it computes. Prototypes: CUDA Driver API, cuda.h. */
#define SIM_IS_LIBRARY
#include "host.h"

#define API __attribute__((visibility("default")))
enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_NOT_INITIALIZED = 3, CUDA_ERROR_NO_DEVICE = 100 };
enum { CUDA_ERROR_INVALID_DEVICE = 101, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
       CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804 };

static const struct sim_gpu *visible[SIM_GPU_COUNT + 1];
static int count = -1;

/* Tells whether this is a forward-compatibility library: one that an image has in /usr/local/cuda/compat. */
static int is_compat(void)
{
    char path[PATH_MAX];
    return sim_own_path(path) && strstr(path, "/compat/");
}

API int cuInit(unsigned int flags)
{
    int compat = is_compat();

    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (!compat && sim_driver_loaded() && strcmp(sim_kernel_version(), SIM_DRIVER_VERSION))
        return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    count = 0;
    for (int i = 0; sim_driver_loaded() && i < SIM_GPU_COUNT; i++)
        if (sim_gpu_visible(&sim_gpus[i]) && !sim_gpu_lost(&sim_gpus[i])) {
            if (compat && !sim_gpus[i].forward_compatible) {
                count = -1;
                return CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE;
            }
            visible[count++] = &sim_gpus[i];
        }
    return count ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

API int cuDriverGetVersion(int *version)
{
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = SIM_CUDA_VERSION;
    return CUDA_SUCCESS;
}

API int cuDeviceGetCount(int *devices)
{
    if (!devices)
        return CUDA_ERROR_INVALID_VALUE;
    if (count < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    *devices = count;
    return CUDA_SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal)
{
    if (count < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!device || ordinal < 0 || ordinal >= count)
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

API int cuDeviceGetName(char *name, int length, int device)
{
    if (count < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!name || length <= 0 || device < 0 || device >= count)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, (size_t)length, "%s", visible[device]->name);
    return CUDA_SUCCESS;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    if (count < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!bytes || device < 0 || device >= count)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = (size_t)visible[device]->memory << 20;
    return CUDA_SUCCESS;
}
