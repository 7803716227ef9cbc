//! ioctls of Btrfs (kernel `include/uapi/linux/btrfs.h`).
