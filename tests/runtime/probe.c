/* Looks around from inside a container: does what its arguments say, one JSON line of answer each.
 *
 * An argument is VERB or VERB=ARGUMENT; a line is {"do": argument, "ok": true|false, "value": string | [string, …]},
 * where the value of a failure is errno's name, or the loader's message. Built with -DWITHOUT_LOADER for images that
 * have no dynamic loader. Exit status: 0, or 2 for a verb that it does not know.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef WITHOUT_LOADER
#include <dlfcn.h>
#include <link.h>
#endif

static void quote(const char *text)
{
	putchar('"');
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c == '"' || *c == '\\' || *c > 0x7e)
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

static void answer(const char *what, int ok, const char *value)
{
	fputs("{\"do\": ", stdout);
	quote(what);
	printf(", \"ok\": %s, \"value\": ", ok ? "true" : "false");
	quote(value);
	puts("}");
}

static const char *errno_name(void)
{
	static char number[24];
	switch (errno) {
	case EPERM: return "EPERM";
	case ENOENT: return "ENOENT";
	case EIO: return "EIO";
	case ENXIO: return "ENXIO";
	case EBADF: return "EBADF";
	case EACCES: return "EACCES";
	case EBUSY: return "EBUSY";
	case EEXIST: return "EEXIST";
	case ENODEV: return "ENODEV";
	case ENOTDIR: return "ENOTDIR";
	case EISDIR: return "EISDIR";
	case EINVAL: return "EINVAL";
	case ENOSPC: return "ENOSPC";
	case EROFS: return "EROFS";
	case ELOOP: return "ELOOP";
	}
	snprintf(number, sizeof number, "errno %d", errno);
	return number;
}

static void try_open(const char *what, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);
	answer(what, fd >= 0, fd >= 0 ? "opened" : errno_name());
	if (fd >= 0)
		close(fd);
}

static void try_read(const char *what, const char *path)
{
	static char contents[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t size = 0, got = 0;
	while (fd >= 0 && (got = read(fd, contents + size, sizeof contents - 1 - size)) > 0)
		size += got;
	contents[size] = 0;
	answer(what, fd >= 0 && got >= 0, fd >= 0 && got >= 0 ? contents : errno_name());
	if (fd >= 0)
		close(fd);
}

static void list(const char *what, const char *path, int targets)
{
	DIR *directory = opendir(path);
	if (!directory) {
		answer(what, 0, errno_name());
		return;
	}
	fputs("{\"do\": ", stdout);
	quote(what);
	fputs(", \"ok\": true, \"value\": [", stdout);
	const char *comma = "";
	char target[4096];
	for (struct dirent *entry; (entry = readdir(directory)); ) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (targets && atoi(entry->d_name) == dirfd(directory))
			continue;
		fputs(comma, stdout);
		if (targets) {
			ssize_t size = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
			target[size < 0 ? 0 : size] = 0;
		}
		quote(targets ? target : entry->d_name);
		comma = ", ";
	}
	puts("]}");
	closedir(directory);
}

/* "c 195:0 666 0:0", "b …", "f 1234 644 0:0", "p …", "d …", "l TARGET" */
static void describe(const char *what, const char *path)
{
	struct stat st;
	char text[4200], target[4096];
	if (lstat(path, &st)) {
		answer(what, 0, errno_name());
		return;
	}
	unsigned mode = st.st_mode & 07777;
	if (S_ISLNK(st.st_mode)) {
		ssize_t size = readlink(path, target, sizeof target - 1);
		target[size < 0 ? 0 : size] = 0;
		snprintf(text, sizeof text, "l %s", target);
	} else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
		snprintf(text, sizeof text, "%c %u:%u %o %u:%u", S_ISBLK(st.st_mode) ? 'b' : 'c', major(st.st_rdev),
			 minor(st.st_rdev), mode, st.st_uid, st.st_gid);
	} else {
		char kind = S_ISDIR(st.st_mode) ? 'd' : S_ISREG(st.st_mode) ? 'f' : S_ISFIFO(st.st_mode) ? 'p' : '?';
		snprintf(text, sizeof text, "%c %lld %o %u:%u", kind, (long long)st.st_size, mode, st.st_uid, st.st_gid);
	}
	answer(what, 1, text);
}

/* mknod=PATH:MAJOR:MINOR */
static void make_node(const char *what, const char *spec)
{
	char path[4096];
	unsigned major_number, minor_number;
	if (sscanf(spec, "%4095[^:]:%u:%u", path, &major_number, &minor_number) != 3) {
		answer(what, 0, "expected PATH:MAJOR:MINOR");
		return;
	}
	int failed = mknod(path, S_IFCHR | 0666, makedev(major_number, minor_number));
	answer(what, !failed, failed ? errno_name() : "made");
}

/* nestproc: whether a user namespace in this container can mount a procfs, as a container in it would */
static void nest_proc(const char *what)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID)) {
		answer(what, 0, "no user namespace");
		return;
	}
	fflush(stdout);
	pid_t child = fork();
	int status = 0;
	if (!child)
		_exit(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) ? errno : 0);
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status);
	answer(what, !errno, errno ? errno_name() : "mounted");
}

#ifndef WITHOUT_LOADER
static void load(const char *what, const char *name)
{
	struct link_map *map = NULL;
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (!library || dlinfo(library, RTLD_DI_LINKMAP, &map)) {
		char text[1024];
		snprintf(text, sizeof text, "not loaded: %s", dlerror());
		answer(what, 0, text);
	} else {
		answer(what, 1, map->l_name);
	}
}

/* cuinit=LIBRARY: what its cuInit returns, in digits */
static void init_cuda(const char *what, const char *name)
{
	void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	int (*init)(unsigned) = library ? (int (*)(unsigned))dlsym(library, "cuInit") : NULL;
	char text[1024];
	if (init)
		snprintf(text, sizeof text, "%d", init(0));
	else
		snprintf(text, sizeof text, "not loaded: %s", dlerror());
	answer(what, init != NULL, text);
}

/* cuda=MIB: what CUDA says of its first GPU, and whether it lets so much memory be had: FREE of TOTAL, CORES, RESULT */
static void use_cuda(const char *what, const char *amount)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	int (*init)(unsigned) = library ? (int (*)(unsigned))dlsym(library, "cuInit") : NULL;
	int (*info)(size_t *, size_t *) = library ? (int (*)(size_t *, size_t *))dlsym(library, "cuMemGetInfo_v2") : NULL;
	int (*attribute)(int *, int, int) = library ? (int (*)(int *, int, int))dlsym(library, "cuDeviceGetAttribute") : NULL;
	int (*allocate)(unsigned long long *, size_t) =
		library ? (int (*)(unsigned long long *, size_t))dlsym(library, "cuMemAlloc_v2") : NULL;
	unsigned long long pointer;
	size_t unused, total;
	char text[256];
	int cores, error = init ? init(0) : -1;
	if (!error)
		error = info(&unused, &total) || attribute(&cores, 16, 0);
	if (error) {
		snprintf(text, sizeof text, "%d", error);
		answer(what, 0, text);
		return;
	}
	error = allocate(&pointer, (size_t)atoll(amount) << 20);
	snprintf(text, sizeof text, "%zu of %zu MiB, %d, %d", unused >> 20, total >> 20, cores, error);
	answer(what, 1, text);
}
#endif

int main(int count, char **arguments)
{
	for (int i = 1; i < count; i++) {
		const char *what = arguments[i], *value = strchr(what, '=');
		size_t length = value ? (size_t)(value - what) : strlen(what);
		value = value ? value + 1 : "";
#define VERB(name) (length == sizeof name - 1 && !memcmp(what, name, length))
		if (VERB("open")) try_open(what, value, O_RDWR);
		else if (VERB("write")) try_open(what, value, O_WRONLY);
		else if (VERB("create")) try_open(what, value, O_WRONLY | O_CREAT);
		else if (VERB("read")) try_read(what, value);
		else if (VERB("list")) list(what, value, 0);
		else if (VERB("stat")) describe(what, value);
		else if (VERB("getenv")) answer(what, getenv(value) != NULL, getenv(value) ? getenv(value) : "");
		else if (VERB("mknod")) make_node(what, value);
		else if (VERB("nestproc")) nest_proc(what);
		else if (VERB("fds")) list(what, "/proc/self/fd", 1);
		else if (VERB("mountinfo")) try_read(what, "/proc/self/mountinfo");
#ifndef WITHOUT_LOADER
		else if (VERB("dlopen")) load(what, value);
		else if (VERB("cuinit")) init_cuda(what, value);
		else if (VERB("cuda")) use_cuda(what, value);
#endif
		else return 2;
		fflush(stdout);
	}
	return 0;
}
