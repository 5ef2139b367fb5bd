/* libnvidia-ml.so of a simulated host: events, by which NVIDIA's device plugin and DCGM learn that a GPU is sick.
 *
 * Xid 79, "GPU has fallen off the bus", comes once for each registered GPU that is lost (sim_gpu_lost), any other for each
 * line `gpu N xid NUMBER` that the file DIR/usage has got since the GPU was registered.
 * Sources: NVML API, nvml.h; open-gpu-kernel-modules, nverror.h (ROBUST_CHANNEL_GPU_HAS_FALLEN_OFF_THE_BUS).
 */
#include <time.h>

#include "nvml.h"

#define EVENT_XID 0x8ULL
/* ECC errors of one and two bits, P-state, Xid, clocks, power source: what data centre GPUs support. */
#define SUPPORTED_EVENTS (0x1ULL | 0x2ULL | 0x4ULL | EVENT_XID | 0x10ULL | 0x80ULL)

enum { XID_FALLEN_OFF_THE_BUS = 79, LOOK_EVERY = 50 /* ms */ };
#define NO_INSTANCE 0xffffffffu

struct event_set {
    unsigned long long types[SIM_GPU_COUNT + 1];
    int told[SIM_GPU_COUNT + 1];
    unsigned int xids[SIM_GPU_COUNT + 1]; /* told, or older than the registration */
};
typedef struct event_set *nvmlEventSet_t;

typedef struct {
    nvmlDevice_t device;
    unsigned long long eventType, eventData;
    unsigned int gpuInstanceId, computeInstanceId;
} nvmlEventData_t;

API int nvmlEventSetCreate(nvmlEventSet_t *set)
{
    NEED_INIT();
    NEED(set, NVML_ERROR_INVALID_ARGUMENT);
    *set = calloc(1, sizeof **set);
    return *set ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

API int nvmlEventSetFree(nvmlEventSet_t set)
{
    NEED_INIT();
    NEED(set, NVML_ERROR_INVALID_ARGUMENT);
    free(set);
    return NVML_SUCCESS;
}

API int nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    NEED_GPU(gpu, device, types);
    NEED(!sim_gpu_lost(gpu), NVML_ERROR_GPU_IS_LOST);
    *types = SUPPORTED_EVENTS;
    return NVML_SUCCESS;
}

API int nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    NEED_GPU(gpu, device, set);
    NEED(!(types & ~SUPPORTED_EVENTS), NVML_ERROR_NOT_SUPPORTED);
    NEED(!sim_gpu_lost(gpu), NVML_ERROR_GPU_IS_LOST);
    if (!(set->types[gpu - sim_gpus] & EVENT_XID))
        set->xids[gpu - sim_gpus] = nvml_xids(gpu, 0, &(unsigned long long){0});
    set->types[gpu - sim_gpus] |= types;
    return NVML_SUCCESS;
}

static void make_event(nvmlEventData_t *data, const struct sim_gpu *gpu, unsigned long long xid)
{
    *data = (nvmlEventData_t){
        .device = gpu,
        .eventType = EVENT_XID,
        .eventData = xid,
        .gpuInstanceId = NO_INSTANCE,
        .computeInstanceId = NO_INSTANCE,
    };
}

static int next_event(nvmlEventSet_t set, nvmlEventData_t *data)
{
    for (int i = 0; i < SIM_GPU_COUNT; i++) {
        const struct sim_gpu *gpu = &sim_gpus[i];
        unsigned long long xid = 0;

        if (!(set->types[i] & EVENT_XID))
            continue;
        if (nvml_xids(gpu, set->xids[i], &xid) > set->xids[i]) {
            set->xids[i]++;
            make_event(data, gpu, xid);
            return 1;
        }
        if (!set->told[i] && sim_gpu_lost(gpu)) {
            set->told[i] = 1;
            make_event(data, gpu, XID_FALLEN_OFF_THE_BUS);
            return 1;
        }
    }
    return 0;
}

API int nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds)
{
    NEED_INIT();
    NEED(set && data, NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned int waited = 0; !next_event(set, data); waited += LOOK_EVERY) {
        struct timespec pause = {.tv_nsec = LOOK_EVERY * 1000000L};

        NEED(waited < milliseconds, NVML_ERROR_TIMEOUT);
        nanosleep(&pause, NULL);
    }
    return NVML_SUCCESS;
}

API int nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int milliseconds)
{
    return nvmlEventSetWait_v2(set, data, milliseconds);
}
