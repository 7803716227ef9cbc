/* The floor of a Btrfs check: one pruned search of each subvolume's tree, and nothing else.
 *
 *   floor-btrfs [-n] DIRECTORY SUBVOLUME_ID...
 *
 * DIRECTORY is any directory on the file system. What is pending is first written into the trees by one
 * syncfs, since a search sees committed metadata alone; with -n that is left out. Then, for each
 * subvolume, its ROOT_ITEM is read from the root tree for the transaction in which it was made
 * (otransid), and its whole tree is searched with min_transid one above that, which skips every block
 * that the subvolume still shares with what it is a snapshot of. The items are counted and not
 * decoded. Prints their number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ROOM 65536

static union {
	struct btrfs_ioctl_search_args_v2 args;
	char bytes[sizeof(struct btrfs_ioctl_search_args_v2) + ROOM];
} search;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static void ask(int fs)
{
	search.args.buf_size = ROOM;
	search.args.key.nr_items = ~0U;
	if (ioctl(fs, BTRFS_IOC_TREE_SEARCH_V2, &search.args) < 0)
		fail("TREE_SEARCH_V2");
}

/* The kernel packs headers and items without alignment: they are copied out. */
static unsigned long long otransid(int fs, unsigned long long subvolume)
{
	struct btrfs_ioctl_search_key *key = &search.args.key;
	struct btrfs_ioctl_search_header header;
	unsigned long long value;

	memset(key, 0, sizeof *key);
	key->tree_id = BTRFS_ROOT_TREE_OBJECTID;
	key->min_objectid = key->max_objectid = subvolume;
	key->min_type = key->max_type = BTRFS_ROOT_ITEM_KEY;
	key->max_offset = key->max_transid = ~0ULL;
	ask(fs);
	memcpy(&header, search.args.buf, sizeof header);
	if (key->nr_items == 0 || header.len < sizeof(struct btrfs_root_item)) {
		fprintf(stderr, "no subvolume %llu\n", subvolume);
		exit(2);
	}
	memcpy(&value, (char *)search.args.buf + sizeof header + offsetof(struct btrfs_root_item, otransid),
	       sizeof value);
	return value;
}

static unsigned long long count(int fs, unsigned long long subvolume, unsigned long long since)
{
	struct btrfs_ioctl_search_key *key = &search.args.key;
	struct btrfs_ioctl_search_header header;
	unsigned long long items = 0;

	memset(key, 0, sizeof *key);
	key->tree_id = subvolume;
	key->max_objectid = key->max_offset = key->max_transid = ~0ULL;
	key->max_type = ~0U;
	key->min_transid = since;
	for (;;) {
		ask(fs);
		if (key->nr_items == 0)
			return items;
		items += key->nr_items;
		const char *at = (const char *)search.args.buf;
		for (unsigned i = 0; i < key->nr_items; i++) {
			memcpy(&header, at, sizeof header);
			at += sizeof header + header.len;
		}
		/* The key behind the last one. */
		key->min_objectid = header.objectid;
		key->min_type = header.type;
		key->min_offset = header.offset + 1;
		if (key->min_offset == 0 && ++key->min_type > 255) {
			key->min_type = 0;
			key->min_objectid++;
		}
	}
}

int main(int argc, char **argv)
{
	int sync = 1, at = 1;
	unsigned long long items = 0;

	if (at < argc && strcmp(argv[at], "-n") == 0) {
		sync = 0;
		at++;
	}
	if (argc - at < 2) {
		fprintf(stderr, "usage: floor-btrfs [-n] DIRECTORY SUBVOLUME_ID...\n");
		return 2;
	}
	int fs = open(argv[at++], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs < 0)
		fail("open");
	if (sync && syncfs(fs) < 0)
		fail("syncfs");
	for (; at < argc; at++) {
		unsigned long long subvolume = strtoull(argv[at], NULL, 10);
		items += count(fs, subvolume, otransid(fs, subvolume) + 1);
	}
	printf("%llu\n", items);
	return 0;
}
