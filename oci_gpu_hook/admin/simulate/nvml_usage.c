/* libnvidia-ml.so of a simulated host: what its GPUs are used for, as the file DIR/usage says at each call.
 *
 * A line is `gpu N …`, or `gpu N:M …` for the MIG device M of GPU N, with GPUs counted from 0 on the bus:
 *
 *   gpu 0 utilization 73 41               percent of time in which kernels ran, and memory was read or written
 *   gpu 0 memory 512                      MiB in use beside what the processes have
 *   gpu 0 power 312500                    milliwatts
 *   gpu 0 temperature 61                  degrees Celsius
 *   gpu 0 process 4711 compute 2048 50 9  pid, compute|graphics|mps, MiB, percent of the multiprocessors, of the memory
 *   gpu 0 xid 48                          an event: nvml_events.c
 *
 * A process is listed as long as it lives. Sources: NVML API, nvml.h (nvmlProcessInfo_t, nvmlProcessUtilizationSample_t,
 * nvmlUtilization_t, nvmlMemory_t, nvmlTemperature_v1_t), and what it says there of GPUs in MIG mode.
 */
#include <signal.h>
#include <time.h>

#include "nvml.h"

enum { IDLE_POWER = 70000, POWER_LIMIT = 700000, IDLE_TEMPERATURE = 35, WHOLE = -1, SENSOR_OF_GPU = 0 };
#define TEMPERATURE_V1 0x100000cu
#define NO_INSTANCE 0xffffffffu

struct line {
    int gpu, mig; /* mig: WHOLE for the GPU itself */
    char word[16], rest[128];
};

static FILE *usage_file(void)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/usage", sim_root());
    return *sim_root() ? fopen(path, "re") : NULL; /* containers have none */
}

static int next_line(FILE *file, struct line *line)
{
    char text[256];

    while (file && fgets(text, sizeof text, file)) {
        *line = (struct line){.mig = WHOLE};
        if (sscanf(text, "gpu %d:%d %15s %127[^\n]", &line->gpu, &line->mig, line->word, line->rest) == 4)
            return 1;
        line->mig = WHOLE;
        if (sscanf(text, "gpu %d %15s %127[^\n]", &line->gpu, line->word, line->rest) == 3)
            return 1;
    }
    return 0;
}

unsigned int nvml_xids(const struct sim_gpu *gpu, unsigned int number, unsigned long long *xid)
{
    FILE *file = usage_file();
    struct line line;
    unsigned int found = 0;

    while (next_line(file, &line))
        if (line.gpu == gpu - sim_gpus && !strcmp(line.word, "xid") && found++ == number)
            *xid = strtoull(line.rest, NULL, 10);
    if (file)
        fclose(file);
    return found;
}

/* A GPU or MIG device, and where lines speak of it. */
struct place {
    const struct sim_gpu *gpu;
    const struct sim_mig *mig;
};

static int place_of(nvmlDevice_t device, struct place *place)
{
    *place = (struct place){0};
    place->mig = as_mig(device, &place->gpu);
    if (!place->mig)
        place->gpu = as_gpu(device);
    NEED(place->gpu, NVML_ERROR_INVALID_ARGUMENT);
    return sim_gpu_lost(place->gpu) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

/* A whole GPU has the lines of its MIG devices too. */
static int is_of(const struct line *line, const struct place *place)
{
    if (line->gpu != place->gpu - sim_gpus || (line->mig != WHOLE && line->mig >= (int)place->gpu->mig_count))
        return 0;
    return !place->mig || line->mig == place->mig - place->gpu->mig;
}

struct process {
    unsigned int pid, sm, memory_rate;
    unsigned long long memory; /* MiB */
    char kind[16];
};

static int as_process(const struct line *line, const struct place *place, struct process *process)
{
    if (strcmp(line->word, "process") || !is_of(line, place))
        return 0;
    if (sscanf(line->rest, "%u %15s %llu %u %u", &process->pid, process->kind, &process->memory, &process->sm,
               &process->memory_rate) != 5)
        return 0;
    return !kill((pid_t)process->pid, 0) || errno == EPERM;
}

typedef struct {
    unsigned int pid;
    unsigned long long usedGpuMemory; /* bytes */
    unsigned int gpuInstanceId, computeInstanceId;
} nvmlProcessInfo_t;

static int processes(nvmlDevice_t device, const char *kind, unsigned int *count, nvmlProcessInfo_t *infos)
{
    struct place place;
    struct line line;
    struct process process;
    unsigned int room, found = 0;
    FILE *file;
    int error;

    NEED_INIT();
    NEED(count, NVML_ERROR_INVALID_ARGUMENT);
    error = place_of(device, &place);
    NEED(!error, error);
    room = infos ? *count : 0;
    file = usage_file();
    while (next_line(file, &line)) {
        if (!as_process(&line, &place, &process) || strcmp(process.kind, kind))
            continue;
        if (found < room) {
            const struct sim_mig *mig = line.mig == WHOLE ? NULL : &place.gpu->mig[line.mig];
            infos[found] = (nvmlProcessInfo_t){
                .pid = process.pid,
                .usedGpuMemory = process.memory << 20,
                .gpuInstanceId = mig ? mig->gpu_instance : NO_INSTANCE,
                .computeInstanceId = mig ? mig->compute_instance : NO_INSTANCE,
            };
        }
        found++;
    }
    if (file)
        fclose(file);
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

#define PROCESSES(function, kind) \
    API int function(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos) \
    { \
        return processes(device, kind, count, infos); \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, "compute")
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, "graphics")
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, "mps")

typedef struct {
    unsigned int pid;
    unsigned long long timeStamp; /* microseconds */
    unsigned int smUtil, memUtil, encUtil, decUtil;
} nvmlProcessUtilizationSample_t;

API int nvmlDeviceGetProcessUtilization(
    nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples, unsigned int *count, unsigned long long since)
{
    NEED_GPU(gpu, device, count);
    NEED(!gpu->mig_enabled, NVML_ERROR_NOT_SUPPORTED);
    NEED(!sim_gpu_lost(gpu), NVML_ERROR_GPU_IS_LOST);

    struct place place = {.gpu = gpu};
    struct line line;
    struct process process;
    struct timespec now;
    unsigned int room = samples ? *count : 0, found = 0;
    FILE *file = usage_file();

    (void)since; /* each sample is of now */
    clock_gettime(CLOCK_REALTIME, &now);
    while (next_line(file, &line)) {
        if (!as_process(&line, &place, &process) || !(process.sm || process.memory_rate))
            continue;
        if (found < room)
            samples[found] = (nvmlProcessUtilizationSample_t){
                .pid = process.pid,
                .timeStamp = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000,
                .smUtil = process.sm,
                .memUtil = process.memory_rate,
            };
        found++;
    }
    if (file)
        fclose(file);
    *count = found;
    return !found ? NVML_ERROR_NOT_FOUND : found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* Returns what the last line with that word says of a GPU, or the default. second: the line's second number. */
static unsigned long long said(const struct place *place, const char *word, int second, unsigned long long otherwise)
{
    FILE *file = usage_file();
    struct line line;
    unsigned long long numbers[2];

    while (next_line(file, &line))
        if (!strcmp(line.word, word) && is_of(&line, place) && (line.mig == WHOLE) == !place->mig &&
            sscanf(line.rest, "%llu %llu", &numbers[0], &numbers[1]) > second)
            otherwise = numbers[second];
    if (file)
        fclose(file);
    return otherwise;
}

typedef struct {
    unsigned int gpu, memory; /* percent */
} nvmlUtilization_t;

API int nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    NEED_GPU(gpu, device, rates);
    NEED(!gpu->mig_enabled, NVML_ERROR_NOT_SUPPORTED);
    NEED(!sim_gpu_lost(gpu), NVML_ERROR_GPU_IS_LOST);
    struct place place = {.gpu = gpu};
    rates->gpu = (unsigned int)said(&place, "utilization", 0, 0);
    rates->memory = (unsigned int)said(&place, "utilization", 1, 0);
    return NVML_SUCCESS;
}

static int number(nvmlDevice_t device, const char *word, unsigned int otherwise, unsigned int *result)
{
    NEED_GPU(gpu, device, result);
    NEED(!sim_gpu_lost(gpu), NVML_ERROR_GPU_IS_LOST);
    struct place place = {.gpu = gpu};
    *result = (unsigned int)said(&place, word, 0, otherwise);
    return NVML_SUCCESS;
}

API int nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
    return number(device, "power", IDLE_POWER, milliwatts);
}

API int nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *milliwatts)
{
    return number(device, "power-limit", POWER_LIMIT, milliwatts);
}

API int nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *degrees)
{
    NEED(sensor == SENSOR_OF_GPU, NVML_ERROR_INVALID_ARGUMENT);
    return number(device, "temperature", IDLE_TEMPERATURE, degrees);
}

typedef struct {
    unsigned int version, sensorType;
    int temperature;
} nvmlTemperature_t;

API int nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *answer)
{
    unsigned int degrees = 0;
    int error;

    NEED(answer && answer->version == TEMPERATURE_V1, NVML_ERROR_INVALID_ARGUMENT);
    error = nvmlDeviceGetTemperature(device, answer->sensorType, &degrees);
    answer->temperature = (int)degrees;
    return error;
}

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used;
} nvmlMemory_v2_t;

API int nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    struct place place;
    struct line line;
    struct process process;
    unsigned long long used;
    FILE *file;

    NEED_INIT();
    NEED(memory && (place_of(device, &place), place.gpu), NVML_ERROR_INVALID_ARGUMENT);
    used = said(&place, "memory", 0, 0);
    file = usage_file();
    while (next_line(file, &line))
        if (as_process(&line, &place, &process))
            used += process.memory;
    if (file)
        fclose(file);
    memory->total = (place.mig ? place.mig->memory : place.gpu->memory) << 20;
    memory->used = used << 20 > memory->total ? memory->total : used << 20;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

API int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t found;
    int error = nvmlDeviceGetMemoryInfo(device, &found);

    NEED(!error, error);
    NEED(memory, NVML_ERROR_INVALID_ARGUMENT);
    *memory = (nvmlMemory_v2_t){
        .version = memory->version, .total = found.total, .free = found.free, .used = found.used};
    return NVML_SUCCESS;
}
