/* The floor of an overlay check: a bare walk of upper directories, and nothing else.
 *
 *   floor-overlay UPPER...
 *
 * Each directory is opened, listed with getdents64 and each of its entries asked with statx: the least
 * that anything has to do which wants to know what stands in upper. No extended attribute is read, no
 * name is looked up in the image, nothing is compared or kept. Prints the number of entries.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry {
	unsigned long long ino;
	long long off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static unsigned long long entries;

static void fail(const char *what, const char *name)
{
	fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
	exit(2);
}

static void walk(int parent, const char *name)
{
	/* A directory's worth of names at a time; small, since one stands on the stack for each level. */
	char buffer[16384] __attribute__((aligned(8)));
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME;
	int dir = openat(parent, name, flags);
	if (dir < 0)
		fail("open", name);
	for (;;) {
		long read = syscall(SYS_getdents64, dir, buffer, sizeof buffer);
		if (read < 0)
			fail("getdents64", name);
		if (read == 0)
			break;
		for (long at = 0; at < read;) {
			struct entry *entry = (struct entry *)(buffer + at);
			at += entry->reclen;
			const char *n = entry->name;
			if (n[0] == '.' && (n[1] == 0 || (n[1] == '.' && n[2] == 0)))
				continue;
			struct statx stx;
			if (syscall(SYS_statx, dir, n, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx) < 0)
				fail("statx", n);
			entries++;
			if ((stx.stx_mode & S_IFMT) == S_IFDIR)
				walk(dir, n);
		}
	}
	close(dir);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: floor-overlay UPPER...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
		walk(AT_FDCWD, argv[i]);
	printf("%llu\n", entries);
	return 0;
}
