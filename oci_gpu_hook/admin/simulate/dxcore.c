/* libdxcore.so of a simulated WSL 2: two adapters, one of another vendor, and the driver stores of both.
 *
 * Source of types and numbers: nvidia-container-toolkit, internal/dxcore/dxcore.c; Microsoft's d3dkmthk.h.
 */
#define SIM_IS_LIBRARY
#include "host.h"
#include <wchar.h>

#define API __attribute__((visibility("default")))

enum { COUNT = 2, LONGEST = 260, WDDM = 3100 };
enum { QUERY_VERSION = 13, QUERY_REGISTRY = 48, STORE_PATH = 2 };
enum { OK = 0, FAILED = -1, OVERFLOW_OF_BUFFER = 1 };

struct adapter {
    unsigned int handle, luid[2], sources, move_regions;
};

struct adapters2 {
    unsigned int count;
    struct adapter *adapters;
};

struct adapters3 {
    unsigned long long filter;
    unsigned int count;
    struct adapter *adapters;
};

struct registry {
    int query;
    unsigned int flags;
    wchar_t name[LONGEST];
    unsigned int kind, adapter, size;
    int status;
    union {
        unsigned long long number;
        wchar_t text;
    } output;
};

struct query {
    unsigned int handle;
    int kind;
    void *data;
    unsigned int size;
};

static const char *const stores[COUNT] = {"/usr/lib/wsl/drivers/iigd_dch.inf_amd64_0000000000000000", SIM_LIBRARIES};

static int list(unsigned int *count, struct adapter *adapters)
{
    for (unsigned int i = 0; adapters && i < COUNT && i < *count; i++)
        adapters[i] = (struct adapter){.handle = 0x40000000 + i, .luid = {i + 1, 0}, .sources = 1};
    *count = COUNT;
    return OK;
}

API int D3DKMTEnumAdapters2(struct adapters2 *asked) { return list(&asked->count, asked->adapters); }
API int D3DKMTEnumAdapters3(struct adapters3 *asked) { return list(&asked->count, asked->adapters); }

API int D3DKMTQueryAdapterInfo(struct query *query)
{
    unsigned int i = query->handle - 0x40000000, bytes;
    struct registry *registry = query->data;

    if (i >= COUNT)
        return FAILED;
    if (query->kind == QUERY_VERSION && query->size == sizeof(unsigned int)) {
        *(unsigned int *)query->data = WDDM;
        return OK;
    }
    if (query->kind != QUERY_REGISTRY || query->size < sizeof *registry || registry->query != STORE_PATH)
        return FAILED;
    bytes = (unsigned int)(strlen(stores[i]) * sizeof(wchar_t));
    if (query->size == sizeof *registry) {
        registry->size = bytes;
        registry->status = OVERFLOW_OF_BUFFER;
        return OK;
    }
    if (registry->size != bytes || query->size != sizeof *registry + bytes)
        return FAILED;
    for (unsigned int at = 0; at < bytes / sizeof(wchar_t); at++)
        (&registry->output.text)[at] = (wchar_t)stores[i][at];
    registry->status = OK;
    return OK;
}
