/* Opens a granted node and a neighbour's, over and over, and writes down what it gets.
 *
 *   watch LOG NODE
 *
 * Makes itself a node of 195:1, which nobody granted. A line of LOG is: seconds of CLOCK_MONOTONIC, what open(2) of
 * NODE gave, what that of the other gave; "opened" or the number of the error.
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

int main(int count, char **arguments)
{
	if (count != 3)
		return 2;
	FILE *log = fopen(arguments[1], "a");
	if (!log || (mknod("/dev/neighbour", S_IFCHR | 0600, makedev(195, 1)) && errno != EEXIST))
		return 1;
	for (;;) {
		struct timespec now, pause = {.tv_nsec = 20 * 1000 * 1000};
		clock_gettime(CLOCK_MONOTONIC, &now);
		const char *granted = try(arguments[2]), *neighbour = try("/dev/neighbour");
		fprintf(log, "%ld.%09ld %s %s\n", (long)now.tv_sec, now.tv_nsec, granted, neighbour);
		fflush(log);
		nanosleep(&pause, NULL);
	}
}
