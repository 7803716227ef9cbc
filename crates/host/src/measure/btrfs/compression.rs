//! Undoing the compression of an extent (kernel `fs/btrfs/{zlib,zstd}.c`).

use std::io::Read as _;

use super::device::Unreadable;
use crate::measure::Trouble;

/// Largest compressed extent, and largest uncompressed one, in bytes (`BTRFS_MAX_COMPRESSED` and
/// `BTRFS_MAX_UNCOMPRESSED`).
pub(super) const MAX_COMPRESSED: u64 = 128 << 10;

/// Largest window of a zstd frame, as a power of two (`ZSTD_BTRFS_MAX_WINDOWLOG`): a frame may ask for
/// a thousand times as much memory, and no kernel would read it.
const WINDOW_LOG_MAX: u32 = 17;

const NONE: u8 = 0;
const ZLIB: u8 = 1;
const ZSTD: u8 = 3;

/// Returns the bytes of an extent, at most the `ram_bytes` that it claims and never more than any
/// extent may have.
///
/// LZO is not known here: no well-kept implementation under a free licence fits.
pub(super) fn decompress(
    compression: u8,
    bytes: &[u8],
    ram_bytes: u64,
) -> Result<Vec<u8>, Unreadable> {
    let limit = ram_bytes.min(MAX_COMPRESSED);
    let mut out = Vec::new();
    let failed = |e: std::io::Error| Trouble(format!("a compressed extent cannot be read: {e}"));
    match compression {
        NONE => return Ok(bytes.to_vec()),
        ZLIB => {
            flate2::read::ZlibDecoder::new(bytes)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(failed)?;
        }
        ZSTD => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(failed)?
                .single_frame();
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(failed)?;
            decoder.take(limit).read_to_end(&mut out).map_err(failed)?;
        }
        _ => return Err(Unreadable::NotSupported),
    }
    Ok(out)
}
