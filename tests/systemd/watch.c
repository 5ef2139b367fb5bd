/* Opens a granted node and a neighbour's, over and over, and writes down what it gets.
 *
 *   watch LOG [NODE]
 *
 * NODE is the first /dev/nvidiaN where none is named. Makes itself a node of the next number, which nobody granted. A
 * line of LOG is: seconds of CLOCK_MONOTONIC, what open(2) of NODE gave, what that of the other gave; "opened" or the
 * number of the error, "-" for the other where no node can be made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static const char *try(const char *path)
{
	static char numbers[2][16];
	static int turn;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		return "opened";
	}
	turn = !turn;
	snprintf(numbers[turn], sizeof numbers[turn], "%d", errno);
	return numbers[turn];
}

static const char *first_node(void)
{
	static char path[32];
	for (int number = 0; number < 64; number++) {
		snprintf(path, sizeof path, "/dev/nvidia%d", number);
		if (access(path, F_OK) == 0)
			return path;
	}
	return NULL;
}

int main(int count, char **arguments)
{
	if (count != 2 && count != 3)
		return 2;
	FILE *log = fopen(arguments[1], "a");
	const char *node = count == 3 ? arguments[2] : first_node();
	struct stat status;
	if (!log || !node)
		return 1;
	dev_t first = stat(node, &status) ? makedev(195, 0) : status.st_rdev; /* one that may come is GPU 0's */
	dev_t other = makedev(major(first), minor(first) + 1);
	int has_other = !mknod("/dev/neighbour", S_IFCHR | 0600, other) || errno == EEXIST;
	for (;;) {
		struct timespec now, pause = {.tv_nsec = 20 * 1000 * 1000};
		clock_gettime(CLOCK_MONOTONIC, &now);
		const char *granted = try(node);
		const char *neighbour = has_other ? try("/dev/neighbour") : "-";
		fprintf(log, "%ld.%09ld %s %s\n", (long)now.tv_sec, now.tv_nsec, granted, neighbour);
		fflush(log);
		nanosleep(&pause, NULL);
	}
}
