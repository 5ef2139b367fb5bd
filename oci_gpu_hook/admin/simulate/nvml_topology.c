/* libnvidia-ml.so of a simulated host: MIG devices, and how GPUs lie to each other. */
#include "nvml.h"

enum { TOPOLOGY_INTERNAL = 0, TOPOLOGY_SINGLE = 10, TOPOLOGY_NODE = 40, TOPOLOGY_SYSTEM = 50 };
enum { CPUS_OF_NODE = 64, BITS = 8 * sizeof(unsigned long), MOST_NVLINKS = 18, REMOTE_IS_GPU = 0 };

typedef struct {
    unsigned int multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount;
    unsigned int sharedJpegCount, sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
    unsigned long long memorySizeMB;
} nvmlDeviceAttributes_t;

API int nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    NEED_GPU(gpu, device, current && pending);
    NEED(gpu->mig_capable, NVML_ERROR_NOT_SUPPORTED);
    *current = *pending = gpu->mig_enabled;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count)
{
    NEED_GPU(gpu, device, count);
    *count = gpu->mig_capable ? SIM_MOST_MIG : 0;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *mig)
{
    NEED_GPU(gpu, device, mig);
    NEED(gpu->mig_capable, NVML_ERROR_NOT_SUPPORTED);
    for (unsigned int m = 0; m < gpu->mig_count; m++)
        if (sim_mig_visible(&gpu->mig[m]) && index-- == 0) {
            *mig = &gpu->mig[m];
            return NVML_SUCCESS;
        }
    return NVML_ERROR_NOT_FOUND;
}

API int nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig)
{
    const struct sim_gpu *parent = NULL;

    NEED_INIT();
    NEED(is_mig, NVML_ERROR_INVALID_ARGUMENT);
    *is_mig = as_mig(device, &parent) != NULL;
    NEED(*is_mig || as_gpu(device), NVML_ERROR_INVALID_ARGUMENT);
    return NVML_SUCCESS;
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t device, nvmlDevice_t *gpu)
{
    NEED_MIG(mig, parent, device, gpu);
    *gpu = parent;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id)
{
    NEED_MIG(mig, parent, device, id);
    *id = mig->gpu_instance;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id)
{
    NEED_MIG(mig, parent, device, id);
    *id = mig->compute_instance;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    NEED_MIG(mig, parent, device, attributes);
    *attributes = (nvmlDeviceAttributes_t){
        .multiprocessorCount = mig->multiprocessors,
        .sharedCopyEngineCount = mig->compute_slices,
        .gpuInstanceSliceCount = mig->compute_slices,
        .computeInstanceSliceCount = mig->compute_slices,
        .memorySizeMB = mig->memory,
    };
    return NVML_SUCCESS;
}

API int nvmlDeviceGetTopologyCommonAncestor(nvmlDevice_t one, nvmlDevice_t other, unsigned int *level)
{
    NEED_GPU(a, one, level);
    const struct sim_gpu *b = as_gpu(other);

    NEED(b, NVML_ERROR_INVALID_ARGUMENT);
    *level = TOPOLOGY_SYSTEM;
    if (a == b)
        *level = TOPOLOGY_INTERNAL;
    else if (a->domain == b->domain && a->slot / 2 == b->slot / 2)
        *level = TOPOLOGY_SINGLE;
    else if (a->domain == b->domain && a->numa_node == b->numa_node)
        *level = TOPOLOGY_NODE;
    return NVML_SUCCESS;
}

/* scope, of the node or of the socket, is the same here: each socket is one node. */
API int nvmlDeviceGetMemoryAffinity(nvmlDevice_t device, unsigned int size, unsigned long *nodes, unsigned int scope)
{
    NEED_GPU(gpu, device, nodes && size && scope <= 1);
    memset(nodes, 0, size * sizeof *nodes);
    nodes[0] = 1UL << gpu->numa_node;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetCpuAffinity(nvmlDevice_t device, unsigned int size, unsigned long *cpus)
{
    NEED_GPU(gpu, device, cpus);
    memset(cpus, 0, size * sizeof *cpus);
    for (unsigned int cpu = gpu->numa_node * CPUS_OF_NODE; cpu < (gpu->numa_node + 1) * CPUS_OF_NODE; cpu++)
        if (cpu / BITS < size)
            cpus[cpu / BITS] |= 1UL << cpu % BITS;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetNumaNodeId(nvmlDevice_t device, unsigned int *node)
{
    NEED_GPU(gpu, device, node);
    return NVML_ERROR_NOT_SUPPORTED; /* NVML says it only where the GPU's memory is a separate node */
}

API int nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned int link, unsigned int *active)
{
    NEED_GPU(gpu, device, active && link < MOST_NVLINKS);
    NEED(link < gpu->nvlinks, NVML_ERROR_NOT_SUPPORTED);
    *active = gpu->peer >= 0;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned int link, unsigned int *type)
{
    NEED_GPU(gpu, device, type && link < MOST_NVLINKS);
    NEED(link < gpu->nvlinks && gpu->peer >= 0, NVML_ERROR_NOT_SUPPORTED);
    *type = REMOTE_IS_GPU;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t device, unsigned int link, nvmlPciInfo_t *info)
{
    NEED_GPU(gpu, device, info && link < MOST_NVLINKS);
    NEED(link < gpu->nvlinks && gpu->peer >= 0, NVML_ERROR_NOT_SUPPORTED);
    return nvml_pci_info(&sim_gpus[gpu->peer], info);
}
