//! What came of holding the layers of images against their digests.

use super::{Bytes, Change, DiffId, Digest, Gap, Image, ImageIdentity, RuntimeKind};
use crate::Verdict;

/// One layer on disk, held against the digest that its image's configuration gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMeasurement {
    /// The digest of its tar stream, uncompressed.
    pub diff_id: DiffId,
    /// Where its files lie on the host, to show.
    pub path: Bytes,
    /// The digest of the stream as it was rebuilt, or read where it is kept; `None` when it could not be.
    pub rebuilt: Option<Digest>,
    /// Length of that stream, in bytes.
    pub bytes: u64,
    /// What differs on disk from the stream, sorted by path: added is what the stream does not have.
    pub changes: Vec<Change>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
}

impl LayerMeasurement {
    /// Returns what follows from it: [`Verdict::Intact`] only where the digest agrees, nothing differs and
    /// everything was seen.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.rebuilt {
            _ if !self.changes.is_empty() => Verdict::Violated,
            Some(rebuilt) if rebuilt != self.diff_id.digest() => Verdict::Violated,
            Some(_) if self.gaps.is_empty() => Verdict::Intact,
            _ => Verdict::Unknown,
        }
    }
}

/// An image whose layers were held against their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMeasurement {
    /// Who keeps it.
    pub runtime: RuntimeKind,
    /// Names that lead to it.
    pub names: Vec<Bytes>,
    /// Its digests.
    pub image: Image,
    /// The digests of every manifest of it, and of every index that leads to it, that its store keeps and
    /// that were proved.
    pub manifests: Vec<Digest>,
    /// What reference values say of it, where there are any.
    pub identity: Option<ImageIdentity>,
    /// What could not be seen of it, its layers aside.
    pub gaps: Vec<Gap>,
}

impl ImageMeasurement {
    /// Returns what follows from it and from its layers: the worst of them, and never better than
    /// [`Verdict::Unknown`] where something could not be seen.
    #[must_use]
    pub fn verdict<'l>(&self, layers: impl IntoIterator<Item = &'l LayerMeasurement>) -> Verdict {
        let own = match &self.identity {
            Some(ImageIdentity::Differs(_)) => Verdict::Violated,
            Some(ImageIdentity::Unknown(_)) => Verdict::Unknown,
            _ if !self.gaps.is_empty() => Verdict::Unknown,
            _ => Verdict::Intact,
        };
        layers
            .into_iter()
            .map(LayerMeasurement::verdict)
            .fold(own, Verdict::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rebuilt: Option<&str>, gaps: usize) -> LayerMeasurement {
        let digest = |byte: &str| format!("sha256:{}", byte.repeat(32));
        LayerMeasurement {
            diff_id: digest("aa").parse().unwrap(),
            path: Bytes::from("/l"),
            rebuilt: rebuilt.map(|byte| digest(byte).parse().unwrap()),
            bytes: 1,
            changes: Vec::new(),
            gaps: vec![Gap::new("a", "b"); gaps],
        }
    }

    #[test]
    fn only_what_was_rebuilt_and_seen_is_intact() {
        for (rebuilt, gaps, verdict) in [
            (Some("aa"), 0, Verdict::Intact),
            (Some("aa"), 1, Verdict::Unknown),
            (None, 0, Verdict::Unknown),
            (Some("bb"), 0, Verdict::Violated),
            (Some("bb"), 1, Verdict::Violated),
        ] {
            assert_eq!(
                layer(rebuilt, gaps).verdict(),
                verdict,
                "{rebuilt:?} {gaps}"
            );
        }
        let image = |gaps| ImageMeasurement {
            runtime: RuntimeKind::Docker,
            names: Vec::new(),
            image: Image::default(),
            manifests: Vec::new(),
            identity: None,
            gaps: vec![Gap::new("a", "b"); gaps],
        };
        let layers = [layer(Some("aa"), 0), layer(None, 1)];
        assert_eq!(image(0).verdict(&layers[..1]), Verdict::Intact);
        assert_eq!(image(1).verdict(&layers[..1]), Verdict::Unknown);
        assert_eq!(image(0).verdict(&layers), Verdict::Unknown);
        assert_eq!(
            image(1).verdict([&layers[1], &layer(Some("bb"), 0)]),
            Verdict::Violated
        );
    }
}
