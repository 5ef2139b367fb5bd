/* libcuda.so of a simulated host: what a program asks before it computes. Prototypes: CUDA Driver API, cuda.h. */
#define SIM_IS_LIBRARY
#include "host.h"
#include "mps.h"

#define API __attribute__((visibility("default")))
enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_NOT_INITIALIZED = 3, CUDA_ERROR_NO_DEVICE = 100 };
enum { CUDA_ERROR_OUT_OF_MEMORY = 2, CUDA_ERROR_MPS_CONNECTION_FAILED = 805 };
enum { CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16 };
enum { CUDA_ERROR_INVALID_DEVICE = 101, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
       CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE = 804 };

static const struct sim_gpu *visible[SIM_GPU_COUNT + 1];
static int count = -1;
static long long limits[SIM_GPU_COUNT + 1]; /* MiB, 0 for none */
static size_t used[SIM_GPU_COUNT + 1];
static int cores = 100;

/* Tells whether this is a forward-compatibility library: one that an image has in /usr/local/cuda/compat. */
static int is_compat(void)
{
    char path[PATH_MAX];
    return sim_own_path(path) && strstr(path, "/compat/");
}

/* Asks the MPS daemon, if its directory is there, for the limits of GPU `i`. A client can only lower them. */
static int ask_mps(int i)
{
    char path[PATH_MAX], line[256];
    struct sockaddr_un address;
    const char *own = getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
    long long limit;
    int fd, part, device;
    ssize_t length;

    snprintf(path, sizeof path, "%s/control", sim_mps_directory());
    if (!sim_exists(path))
        return CUDA_SUCCESS;
    fd = sim_mps_socket(path, &address);
    length = snprintf(line, sizeof line, "client %s\n", visible[i]->uuid);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd); /* without a daemon a program is no client, as with the real driver */
        return CUDA_SUCCESS;
    }
    if (fd < 0 || write(fd, line, (size_t)length) != length ||
        shutdown(fd, SHUT_WR) || (length = read(fd, line, sizeof line - 1)) <= 0) {
        close(fd);
        return CUDA_ERROR_MPS_CONNECTION_FAILED;
    }
    close(fd);
    line[length] = 0;
    if (sscanf(line, "%lld %d", &limit, &part) != 2 || limit < 0)
        return CUDA_ERROR_MPS_CONNECTION_FAILED;
    limits[i] = limit;
    cores = part;
    if (own && sscanf(own, "%d=%63s", &device, line) == 2 && device == i) {
        limit = sim_mps_amount(line);
        if (!limits[i] || limit < limits[i])
            limits[i] = limit;
    }
    return CUDA_SUCCESS;
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
    for (int i = 0; i < count; i++) {
        int error = ask_mps(i);
        if (error) {
            count = -1;
            return error;
        }
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

/* Of the first GPU, since nobody makes contexts here. */
API int cuMemGetInfo_v2(size_t *free, size_t *total)
{
    size_t bytes;

    if (count <= 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!free || !total)
        return CUDA_ERROR_INVALID_VALUE;
    *total = (size_t)visible[0]->memory << 20;
    bytes = limits[0] ? (size_t)limits[0] << 20 : *total;
    *free = bytes - used[0];
    return CUDA_SUCCESS;
}

API int cuMemAlloc_v2(unsigned long long *pointer, size_t bytes)
{
    size_t free, total;
    int error = cuMemGetInfo_v2(&free, &total);

    if (error)
        return error;
    if (!pointer || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes > free)
        return CUDA_ERROR_OUT_OF_MEMORY;
    used[0] += bytes;
    *pointer = 0x700000000000ull + used[0];
    return CUDA_SUCCESS;
}

API int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    if (count < 0)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (!value || device < 0 || device >= count || attribute != CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        return CUDA_ERROR_INVALID_VALUE;
    *value = (int)visible[device]->multiprocessors * cores / 100;
    return CUDA_SUCCESS;
}
