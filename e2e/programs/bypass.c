/* What a process in a container can do to run code, or show files, that are in no layer.
 * Compiled statically by the tests. Every mode but
 * "subvolume" stays until it is killed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *sleeper[] = {"sleep", "1000", NULL};
static char *const no_environment[] = {NULL};

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

/* A memfd that holds a copy of busybox. */
static int copy_in_memory(const char *name, unsigned flags) {
    int from = open("/bin/busybox", O_RDONLY), to = memfd_create(name, flags);
    char buffer[65536];
    ssize_t n;
    if (from < 0 || to < 0) die("copy");
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, n) != n) die("write");
    return to;
}

static void run_fd(int fd, const char *path, int flags) {
    syscall(SYS_execveat, fd, path, sleeper, no_environment, flags);
    die("execveat");
}

static void *cover(void *path) {
    if (unshare(CLONE_NEWNS | CLONE_FS)) die("unshare");
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("private");
    if (mount("tmpfs", path, "tmpfs", 0, NULL)) die("tmpfs");
    pause();
    return NULL;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    const char *path = argc > 2 ? argv[2] : "";
    if (!strcmp(mode, "memfd")) {
        run_fd(copy_in_memory(path, 0), "", AT_EMPTY_PATH);
    } else if (!strcmp(mode, "library")) {
        /* As dlopen of /proc/self/fd/N does it. */
        int fd = copy_in_memory(path, 0);
        if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) die("mmap");
        close(fd);
        pause();
    } else if (!strcmp(mode, "detached")) {
        /* OPEN_TREE_CLONE: a copy of the mount that is attached nowhere. */
        int tree = syscall(428, AT_FDCWD, path, 1 | O_CLOEXEC);
        if (tree < 0) die("open_tree");
        run_fd(tree, "tool", 0);
    } else if (!strcmp(mode, "thread")) {
        /* A mount namespace of one thread alone, with something over an image path. */
        pthread_t thread;
        if (pthread_create(&thread, NULL, cover, argv[2])) die("thread");
        pthread_join(thread, NULL);
    } else if (!strcmp(mode, "subvolume")) {
        /* struct btrfs_ioctl_vol_args, BTRFS_IOC_SUBVOL_CREATE. */
        struct { long long fd; char name[4088]; } args = {0};
        char *slash = strrchr(argv[2], '/');
        strncpy(args.name, slash + 1, sizeof args.name - 1);
        slash[1] = 0;
        int parent = open(argv[2], O_RDONLY);
        if (parent < 0 || ioctl(parent, _IOW(0x94, 14, args), &args)) die("subvolume");
        return 0;
    }
    return 2;
}
