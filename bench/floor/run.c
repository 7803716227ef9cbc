/* Runs one program and writes what it took.
 *
 *   bench-run REPORT PROGRAM ARGUMENT...
 *
 * One line in the file REPORT: wall time in microseconds from before the fork to the end of the program,
 * its user and system time in microseconds, its peak resident memory in KiB, its exit status. User and
 * system time are of all the processes that it waited for, peak memory is that of the largest of them.
 *
 * A program of its own, and a small one, since the kernel counts what a process held before exec into
 * the peak of what it became: forked from a large process, every program would look as large.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long micros(struct timeval t)
{
	return t.tv_sec * 1000000LL + t.tv_usec;
}

int main(int argc, char **argv)
{
	struct timespec begin, end;
	struct rusage used;
	int status;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-run REPORT PROGRAM ARGUMENT...\n");
		return 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &begin);
	pid_t child = fork();
	if (child == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &used) < 0) {
		perror("bench-run");
		return 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	FILE *report = fopen(argv[1], "w");
	if (!report) {
		perror(argv[1]);
		return 2;
	}
	fprintf(report, "%lld %lld %lld %ld %d\n",
		(end.tv_sec - begin.tv_sec) * 1000000LL + (end.tv_nsec - begin.tv_nsec) / 1000,
		micros(used.ru_utime), micros(used.ru_stime), used.ru_maxrss,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return fclose(report) ? 2 : 0;
}
