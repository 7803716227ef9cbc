//! overlay_mount
