/* libnvidia-ml.so of a simulated host: the library itself, its devices, and what a GPU is. */
#include "nvml.h"

const struct sim_gpu *nvml_gpus[SIM_GPU_COUNT + 1];
unsigned int nvml_gpu_count;
unsigned int nvml_users;

API int nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    if (nvml_users++)
        return NVML_SUCCESS;
    if (!sim_driver_loaded()) {
        nvml_users = 0;
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    if (strcmp(sim_kernel_version(), SIM_DRIVER_VERSION)) {
        nvml_users = 0;
        return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    }
    nvml_gpu_count = 0;
    for (int i = 0; i < SIM_GPU_COUNT; i++)
        if (sim_gpu_visible(&sim_gpus[i]))
            nvml_gpus[nvml_gpu_count++] = &sim_gpus[i];
    return NVML_SUCCESS;
}

API int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API int nvmlInit(void) { return nvmlInitWithFlags(0); }

API int nvmlShutdown(void)
{
    NEED_INIT();
    nvml_users--;
    return NVML_SUCCESS;
}

API const char *nvmlErrorString(int result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

API int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    NEED_INIT();
    return nvml_text(version, length, SIM_DRIVER_VERSION);
}

API int nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    return nvml_text(version, length, SIM_NVML_VERSION);
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    NEED(version, NVML_ERROR_INVALID_ARGUMENT);
    *version = SIM_CUDA_VERSION;
    return NVML_SUCCESS;
}

API int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

API int nvmlDeviceGetCount_v2(unsigned int *count)
{
    NEED_INIT();
    NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    *count = nvml_gpu_count;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    NEED_INIT();
    NEED(device && index < nvml_gpu_count, NVML_ERROR_INVALID_ARGUMENT);
    NEED(!sim_gpu_lost(nvml_gpus[index]), NVML_ERROR_GPU_IS_LOST);
    *device = nvml_gpus[index];
    return NVML_SUCCESS;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    NEED_INIT();
    NEED(uuid && device, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned int i = 0; i < nvml_gpu_count; i++) {
        const struct sim_gpu *gpu = nvml_gpus[i];
        *device = gpu;
        if (!strcmp(uuid, gpu->uuid))
            return sim_gpu_lost(gpu) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
        for (unsigned int m = 0; m < gpu->mig_count; m++) {
            *device = &gpu->mig[m];
            if (!strcmp(uuid, gpu->mig[m].uuid) && sim_mig_visible(&gpu->mig[m]))
                return NVML_SUCCESS;
        }
    }
    *device = NULL;
    return NVML_ERROR_NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *device)
{
    unsigned int domain, bus, slot, function;

    NEED_INIT();
    NEED(bus_id && device, NVML_ERROR_INVALID_ARGUMENT);
    if (sscanf(bus_id, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) {
        domain = 0;
        NEED(sscanf(bus_id, "%x:%x.%x", &bus, &slot, &function) == 3, NVML_ERROR_INVALID_ARGUMENT);
    }
    for (unsigned int i = 0; i < nvml_gpu_count; i++)
        if (nvml_gpus[i]->domain == domain && nvml_gpus[i]->bus == bus && !slot && !function) {
            *device = nvml_gpus[i];
            return sim_gpu_lost(nvml_gpus[i]) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

API int nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index)
{
    NEED_GPU(gpu, device, index);
    for (*index = 0; nvml_gpus[*index] != gpu; ++*index)
        ;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
    const struct sim_gpu *parent = NULL;
    const struct sim_mig *mig = as_mig(device, &parent);
    char text[128];

    if (mig) {
        snprintf(text, sizeof text, "%s MIG %s", parent->name, mig->profile);
        return nvml_text(name, length, text);
    }
    NEED_GPU(gpu, device, name);
    return nvml_text(name, length, gpu->name);
}

API int nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
    const struct sim_gpu *parent = NULL;
    const struct sim_mig *mig = as_mig(device, &parent);

    if (mig)
        return nvml_text(uuid, length, mig->uuid);
    NEED_GPU(gpu, device, uuid);
    return nvml_text(uuid, length, gpu->uuid);
}

#define NUMBER_OF_GPU(function, type, value) \
    API int function(nvmlDevice_t device, type *result) \
    { \
        NEED_GPU(gpu, device, result); \
        *result = (value); \
        return NVML_SUCCESS; \
    }

NUMBER_OF_GPU(nvmlDeviceGetBrand, unsigned int, gpu->brand)
NUMBER_OF_GPU(nvmlDeviceGetMinorNumber, unsigned int, gpu->minor)
NUMBER_OF_GPU(nvmlDeviceGetArchitecture, unsigned int, gpu->architecture)
NUMBER_OF_GPU(nvmlDeviceGetPersistenceMode, unsigned int, ((void)gpu, 1))
NUMBER_OF_GPU(nvmlDeviceGetComputeMode, unsigned int, ((void)gpu, 0))

API int nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    NEED_GPU(gpu, device, major && minor);
    *major = (int)gpu->capability_major;
    *minor = (int)gpu->capability_minor;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    NEED_GPU(gpu, device, info);
    NEED(!gpu->integrated, NVML_ERROR_NOT_SUPPORTED);
    return nvml_pci_info(gpu, info);
}
