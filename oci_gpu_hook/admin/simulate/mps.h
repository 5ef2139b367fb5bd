/* How a simulated libcuda finds the MPS daemon, and what the daemon's amounts mean. */
#ifndef MPS_H
#define MPS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static inline const char *sim_mps_directory(void)
{
    const char *said = getenv("CUDA_MPS_PIPE_DIRECTORY");

    return said && *said ? said : "/tmp/nvidia-mps";
}

/* Returns a socket, and fills in the address, -1 for a path that is too long. */
static inline int sim_mps_socket(const char *path, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path)
        return -1;
    strcpy(address->sun_path, path);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Returns the MiB in 8G, 512M or a number of bytes. */
static inline long long sim_mps_amount(const char *text)
{
    char *unit;
    long long value = strtoll(text, &unit, 10);

    if (*unit == 'G' || *unit == 'g')
        return value << 10;
    return *unit == 'M' || *unit == 'm' ? value : value >> 20;
}

#endif
