/* libnvidia-ml.so of a simulated host: GPU instances, compute instances and their profiles, by which tools name MIG
 * devices ("1g.10gb"). A compute instance fills its GPU instance, and a handle of either points to the MIG device.
 *
 * Source of the numbers: NVML API, nvml.h; profile ids as `nvidia-smi mig -lgip` lists them.
 */
#include "nvml.h"

typedef const struct sim_mig *nvmlInstance_t;

struct profile {
    unsigned int index, id, compute_slices, memory_slices;
};

enum { MOST_MEMORY_SLICES = 8, MOST_COMPUTE_SLICES = 7, GPU_PROFILES = 0x12, COMPUTE_PROFILES = 9 };

static const struct profile profiles[] = {
    {0x0, 19, 1, 1}, {0x1, 14, 2, 2}, {0x2, 9, 3, 4}, {0x3, 5, 4, 4}, {0x4, 0, 7, 8}, {0x9, 15, 1, 2},
};
enum { PROFILES = sizeof profiles / sizeof *profiles };

/* NVML's indices of compute instance profiles by slices: 1, 2, 3, 4 and 7; the ids are the same. */
static const unsigned int compute_profiles[MOST_COMPUTE_SLICES + 1] = {99, 0, 1, 2, 3, 99, 99, 4};

typedef struct {
    unsigned int id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount, decoderCount;
    unsigned int encoderCount, jpegCount, ofaCount;
    unsigned long long memorySizeMB;
} nvmlGpuInstanceProfileInfo_t;

typedef struct {
    unsigned int id, sliceCount, instanceCount, multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount;
    unsigned int sharedEncoderCount, sharedJpegCount, sharedOfaCount;
} nvmlComputeInstanceProfileInfo_t;

typedef struct {
    nvmlDevice_t device;
    unsigned int id, profileId, start, size;
} nvmlGpuInstanceInfo_t;

typedef struct {
    nvmlDevice_t device;
    nvmlInstance_t gpuInstance;
    unsigned int id, profileId, start, size;
} nvmlComputeInstanceInfo_t;

static unsigned int memory_slices(const struct sim_gpu *gpu, const struct sim_mig *mig)
{
    return (unsigned int)((mig->memory * MOST_MEMORY_SLICES + gpu->memory / 2) / gpu->memory);
}

API int nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int index, nvmlGpuInstanceProfileInfo_t *info)
{
    NEED_GPU(gpu, device, info && index < GPU_PROFILES);
    NEED(gpu->mig_capable, NVML_ERROR_NOT_SUPPORTED);
    for (int i = 0; i < PROFILES; i++)
        if (profiles[i].index == index) {
            const struct profile *profile = &profiles[i];

            *info = (nvmlGpuInstanceProfileInfo_t){
                .id = profile->id,
                .sliceCount = profile->compute_slices,
                .instanceCount = MOST_COMPUTE_SLICES / profile->compute_slices,
                .multiprocessorCount = gpu->slice_multiprocessors * profile->compute_slices,
                .copyEngineCount = profile->compute_slices,
                .memorySizeMB = gpu->memory * profile->memory_slices / MOST_MEMORY_SLICES,
            };
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_SUPPORTED;
}

API int nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlInstance_t *instance)
{
    NEED_GPU(gpu, device, instance);
    NEED(gpu->mig_enabled, NVML_ERROR_NOT_SUPPORTED);
    for (unsigned int m = 0; m < gpu->mig_count; m++)
        if (gpu->mig[m].gpu_instance == id && sim_mig_visible(&gpu->mig[m])) {
            *instance = &gpu->mig[m];
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

API int nvmlGpuInstanceGetInfo(nvmlInstance_t instance, nvmlGpuInstanceInfo_t *info)
{
    NEED_MIG(mig, parent, instance, info);
    for (int i = 0; i < PROFILES; i++)
        if (profiles[i].compute_slices == mig->compute_slices &&
            profiles[i].memory_slices == memory_slices(parent, mig))
            *info = (nvmlGpuInstanceInfo_t){
                .device = parent,
                .id = mig->gpu_instance,
                .profileId = profiles[i].id,
                .size = profiles[i].memory_slices,
            };
    return NVML_SUCCESS;
}

API int nvmlGpuInstanceGetComputeInstanceById(nvmlInstance_t instance, unsigned int id, nvmlInstance_t *compute)
{
    NEED_MIG(mig, parent, instance, compute);
    (void)parent;
    NEED(mig->compute_instance == id, NVML_ERROR_NOT_FOUND);
    *compute = mig;
    return NVML_SUCCESS;
}

API int nvmlComputeInstanceGetInfo_v2(nvmlInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
    NEED_MIG(mig, parent, compute, info);
    *info = (nvmlComputeInstanceInfo_t){
        .device = parent,
        .gpuInstance = mig,
        .id = mig->compute_instance,
        .profileId = compute_profiles[mig->compute_slices],
        .size = mig->compute_slices,
    };
    return NVML_SUCCESS;
}

API int nvmlComputeInstanceGetInfo(nvmlInstance_t compute, nvmlComputeInstanceInfo_t *info)
{
    return nvmlComputeInstanceGetInfo_v2(compute, info);
}

API int nvmlGpuInstanceGetComputeInstanceProfileInfo(
    nvmlInstance_t instance, unsigned int index, unsigned int engine, nvmlComputeInstanceProfileInfo_t *info)
{
    NEED_MIG(mig, parent, instance, info && index < COMPUTE_PROFILES && engine == 0);
    for (unsigned int slices = 1; slices <= mig->compute_slices; slices++)
        if (compute_profiles[slices] == index) {
            *info = (nvmlComputeInstanceProfileInfo_t){
                .id = index,
                .sliceCount = slices,
                .instanceCount = mig->compute_slices / slices,
                .multiprocessorCount = parent->slice_multiprocessors * slices,
            };
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_SUPPORTED;
}
