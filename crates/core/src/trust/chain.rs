//! The chainID arithmetic of the OCI image specification.

use sha2::{Digest as _, Sha256};

use crate::model::{Algorithm, ChainId, DiffId, Digest};

/// Returns the chainID of each layer, given the diffIDs with the base first.
///
/// OCI image specification, "Layer ChainID": the first chainID is the first diffID, each next one
/// is the SHA-256 of the previous chainID, a space and the diffID.
#[must_use]
pub fn chain_ids(diff_ids: &[DiffId]) -> Vec<ChainId> {
    let mut chain: Vec<ChainId> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let digest = match chain.last() {
            None => *diff_id.digest(),
            Some(previous) => sha256(format!("{previous} {diff_id}").as_bytes()),
        };
        chain.push(digest.into());
    }
    chain
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let value = Sha256::digest(bytes);
    let mut buffer = [0; 32];
    buffer.copy_from_slice(&value);
    #[expect(clippy::expect_used, reason = "32 bytes are the length of SHA-256")]
    Digest::new(Algorithm::Sha256, &buffer).expect("the length of SHA-256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_of_two() {
        // Computed with: printf 'sha256:aa.. sha256:bb..' | sha256sum
        let a: DiffId = format!("sha256:{}", "aa".repeat(32)).parse().unwrap();
        let b: DiffId = format!("sha256:{}", "bb".repeat(32)).parse().unwrap();
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain[0].to_string(), a.to_string());
        assert_eq!(
            chain[1].to_string(),
            "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c"
        );
        assert!(chain_ids(&[]).is_empty());
    }
}
