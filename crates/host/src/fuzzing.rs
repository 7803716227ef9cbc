//! The decoders of bytes that a container or a disk controls, each with what must hold of it.
//!
//! For `fuzz/` and for the replay of its corpus, and no part of the API: see `plimsoll_core::fuzzing`.

pub use crate::fs::bolt::fuzzing::bolt;
pub use crate::fs::btrfs::fuzzing::{
    btrfs_extent, btrfs_inode, btrfs_names, btrfs_root, btrfs_search,
};
pub use crate::fs::erofs::fuzzing::erofs;
pub use crate::image::fuzzing::{image_blob, image_members, image_records};
pub use crate::measure::btrfs::fuzzing::{
    btrfs_checksums, btrfs_chunk, btrfs_decompress, btrfs_extents, btrfs_superblock, btrfs_walk,
};
pub use crate::measure::digest::fuzzing::baseline;
pub use crate::measure::overlay::fuzzing::{fiemap, overlay_index, overlay_marks};
pub use crate::proc::fuzzing::{
    mountinfo, overlay_options, process_cgroup, process_maps, process_stat,
};
pub use crate::runtimes::containerd::fuzzing::{containerd_spec, containerd_text};
pub use crate::runtimes::docker::fuzzing::{
    docker_answer, docker_json, docker_layer, docker_links, docker_record, dockerd_arguments,
};
pub use crate::runtimes::storage::fuzzing::{storage_conf, storage_records};

/// All decoders of this crate.
pub const TARGETS: &[plimsoll_core::fuzzing::Target] = &[
    ("baseline", baseline),
    ("bolt", bolt),
    ("btrfs_checksums", btrfs_checksums),
    ("btrfs_chunk", btrfs_chunk),
    ("btrfs_decompress", btrfs_decompress),
    ("btrfs_extent", btrfs_extent),
    ("btrfs_extents", btrfs_extents),
    ("btrfs_inode", btrfs_inode),
    ("btrfs_names", btrfs_names),
    ("btrfs_root", btrfs_root),
    ("btrfs_search", btrfs_search),
    ("btrfs_superblock", btrfs_superblock),
    ("btrfs_walk", btrfs_walk),
    ("containerd_spec", containerd_spec),
    ("containerd_text", containerd_text),
    ("docker_answer", docker_answer),
    ("docker_json", docker_json),
    ("docker_layer", docker_layer),
    ("docker_links", docker_links),
    ("docker_record", docker_record),
    ("dockerd_arguments", dockerd_arguments),
    ("erofs", erofs),
    ("fiemap", fiemap),
    ("image_blob", image_blob),
    ("image_members", image_members),
    ("image_records", image_records),
    ("mountinfo", mountinfo),
    ("overlay_index", overlay_index),
    ("overlay_marks", overlay_marks),
    ("overlay_options", overlay_options),
    ("process_cgroup", process_cgroup),
    ("process_maps", process_maps),
    ("process_stat", process_stat),
    ("storage_conf", storage_conf),
    ("storage_records", storage_records),
];
