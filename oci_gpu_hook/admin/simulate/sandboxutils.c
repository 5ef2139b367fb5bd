/* libnvidia-sandboxutils.so of a simulated host: which files of /dev are a GPU's, as nvidia-ctk and NVIDIA's device
 * plugin ask for their CDI specifications. Paths are those of a host whose root the simulated one is.
 *
 * Source of types and numbers: nvidia-container-toolkit, internal/nvsandboxutils/nvsandboxutils.h.
 */
#define SIM_IS_LIBRARY
#include "host.h"

#define API __attribute__((visibility("default")))

enum { INPUT_LENGTH = 256, PATH_LENGTH = 256 };

enum {
    SUCCESS = 0,
    ERROR_UNINITIALIZED = 1,
    ERROR_INVALID_ARG = 3,
    ERROR_INSUFFICIENT_SIZE = 4,
    ERROR_VERSION_NOT_SUPPORTED = 5,
    ERROR_FILEPATH_NOT_FOUND = 11
};
enum { BY_GPU_UUID = 0, BY_MIG_UUID = 1, BY_PCI_ID = 2, BY_PCI_INDEX = 3 };
enum { TYPE_DEV = 0 };
enum { DEV_NVIDIA = 0, DEV_DRI_CARD, DEV_DRI_RENDERD, DEV_DRI_CARD_LINK, DEV_DRI_RENDERD_LINK, DEV_NVIDIA_CAP = 10 };
enum { MODULE_GPU = 0, MODULE_MIG = 1 };
enum { FLAG_NONE = 0, FLAG_CONTENT = 1 << 2 };

struct file {
    struct file *next;
    unsigned int type, subtype, module, flags;
    char *path;
};

struct input {
    unsigned int version, type;
    char value[INPUT_LENGTH];
};

struct request {
    unsigned int version, input_type;
    char input[INPUT_LENGTH];
    struct file *files;
};

enum { MOST_FILES = 7 }; /* of a MIG device: two capabilities and its GPU's five */

static int users;
/* What a request is answered with, until the next one. */
static struct file files[MOST_FILES];
static char paths[MOST_FILES][PATH_LENGTH];

API int nvSandboxUtilsInit(struct input *input)
{
    if (!input)
        return ERROR_INVALID_ARG;
    if (input->version != 1)
        return ERROR_VERSION_NOT_SUPPORTED;
    users++;
    return SUCCESS;
}

API int nvSandboxUtilsShutdown(void)
{
    if (!users)
        return ERROR_UNINITIALIZED;
    users--;
    return SUCCESS;
}

API int nvSandboxUtilsGetDriverVersion(char *version, unsigned int length)
{
    if (!users)
        return ERROR_UNINITIALIZED;
    if (!version)
        return ERROR_INVALID_ARG;
    if (strlen(SIM_DRIVER_VERSION) >= length)
        return ERROR_INSUFFICIENT_SIZE;
    strcpy(version, SIM_DRIVER_VERSION);
    return SUCCESS;
}

static unsigned int list_gpu(unsigned int count, const struct sim_gpu *gpu)
{
    const unsigned int address[] = {gpu->domain & 0xffff, gpu->bus & 0xff};

    snprintf(paths[count], PATH_LENGTH, "/dev/nvidia%u", gpu->minor);
    snprintf(paths[count + 1], PATH_LENGTH, "/dev/dri/card%u", gpu->card);
    snprintf(paths[count + 2], PATH_LENGTH, "/dev/dri/renderD%u", gpu->render);
    snprintf(paths[count + 3], PATH_LENGTH, "/dev/dri/by-path/pci-%04x:%02x:00.0-card", address[0], address[1]);
    snprintf(paths[count + 4], PATH_LENGTH, "/dev/dri/by-path/pci-%04x:%02x:00.0-render", address[0], address[1]);
    for (unsigned int subtype = DEV_NVIDIA; subtype <= DEV_DRI_RENDERD_LINK; subtype++)
        files[count++] = (struct file){
            .type = TYPE_DEV,
            .subtype = subtype,
            .module = MODULE_GPU,
            .flags = subtype >= DEV_DRI_CARD_LINK ? FLAG_CONTENT : FLAG_NONE,
        };
    return count;
}

static unsigned int list_mig(unsigned int count, const struct sim_mig *mig)
{
    const unsigned int minors[] = {mig->gpu_instance_minor, mig->compute_instance_minor};

    for (int i = 0; i < 2; i++) {
        snprintf(paths[count], PATH_LENGTH, "/dev/nvidia-caps/nvidia-cap%u", minors[i]);
        files[count++] = (struct file){.type = TYPE_DEV, .subtype = DEV_NVIDIA_CAP, .module = MODULE_MIG};
    }
    return count;
}

/* Finds the GPU, and the MIG device where one is asked for. */
static const struct sim_gpu *asked_for(const struct request *request, const struct sim_mig **mig)
{
    char text[32];

    for (int i = 0; i < SIM_GPU_COUNT; i++) {
        const struct sim_gpu *gpu = &sim_gpus[i];

        if (request->input_type == BY_GPU_UUID && !strcmp(request->input, gpu->uuid))
            return gpu;
        for (unsigned int m = 0; request->input_type == BY_MIG_UUID && m < gpu->mig_count; m++)
            if (!strcmp(request->input, gpu->mig[m].uuid)) {
                *mig = &gpu->mig[m];
                return gpu;
            }
        snprintf(text, sizeof text, "%04x:%02x:00.0", gpu->domain & 0xffff, gpu->bus & 0xff);
        if (request->input_type == BY_PCI_ID && !strcmp(request->input, text))
            return gpu;
        snprintf(text, sizeof text, "%d", i);
        if (request->input_type == BY_PCI_INDEX && !strcmp(request->input, text))
            return gpu;
    }
    return NULL;
}

API int nvSandboxUtilsGetGpuResource(struct request *request)
{
    const struct sim_mig *mig = NULL;
    const struct sim_gpu *gpu;
    unsigned int count;

    if (!users)
        return ERROR_UNINITIALIZED;
    if (!request)
        return ERROR_INVALID_ARG;
    if (request->version != 1)
        return ERROR_VERSION_NOT_SUPPORTED;
    request->input[INPUT_LENGTH - 1] = 0;
    gpu = asked_for(request, &mig);
    if (!gpu)
        return ERROR_INVALID_ARG;
    count = list_gpu(0, gpu);
    if (mig)
        count = list_mig(count, mig);
    for (unsigned int i = 0; i < count; i++) {
        files[i].path = paths[i];
        files[i].next = i + 1 < count ? &files[i + 1] : NULL;
    }
    request->files = files;
    return SUCCESS;
}

API int nvSandboxUtilsGetFileContent(char *path, char *content, unsigned int *size)
{
    char host_path[PATH_MAX + PATH_LENGTH];
    ssize_t length;

    if (!users)
        return ERROR_UNINITIALIZED;
    if (!path || !content || !size)
        return ERROR_INVALID_ARG;
    snprintf(host_path, sizeof host_path, "%s%s", sim_root(), path);
    length = readlink(host_path, content, *size);
    if (length < 0)
        return ERROR_FILEPATH_NOT_FOUND;
    if ((unsigned int)length >= *size)
        return ERROR_INSUFFICIENT_SIZE;
    content[length] = 0;
    *size = (unsigned int)length;
    return SUCCESS;
}
