//! Lines about the layers of images.

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::{Aspect, DiffId, LayerTrust, escape};
use plimsoll_core::report::v1::images::LayerChange;
use plimsoll_core::report::v1::{Container, LayerProof};

use super::table::{DIM, image};

/// Changes of a layer that are shown; `-v` shows all.
pub(crate) const SHOWN: usize = 25;

const RED: Style = AnsiColor::Red.on_default();

/// Returns the line about something that differs in a layer.
pub(crate) fn change_line(change: &LayerChange) -> String {
    let xattrs: Vec<String> = change.xattrs.iter().map(ToString::to_string).collect();
    let aspects: Vec<&str> = change.aspects.iter().map(Aspect::as_str).collect();
    let mut aspects = aspects.join(", ");
    if !xattrs.is_empty() {
        aspects = format!("{aspects} ({})", xattrs.join(", "));
    }
    format!("{}  {}  {aspects}", change.kind.letter(), change.path)
        .trim_end()
        .to_owned()
}

/// Returns the lines about the layers beneath a container that are not what their digests say, and about
/// broken seals.
pub(super) fn lines(container: &Container, verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(identity) = &container.baseline.identity
        && identity.agrees == Some(false)
    {
        let (of, why) = (image(&container.image), identity.why.as_deref());
        let why = why.unwrap_or("is another one than it must be");
        lines.push(format!("{RED}image {of}{RED:#}: {why}"));
    }
    for proof in &container.baseline.proofs {
        let of = image(&container.image);
        let mut layers = container.image.layers.iter();
        let at = layers.position(|layer| *layer == proof.diff_id);
        let at = at.map_or_else(|| "a layer".to_owned(), |at| format!("layer {}", at + 1));
        let layer = format!("{at} of {of} ({})", short(&proof.diff_id));
        match proof.held {
            LayerTrust::Violated => tell(&layer, proof, verbose, &mut lines),
            LayerTrust::Verified if proof.seal_broken => lines.push(format!(
                "{DIM}{layer} was touched since it was sealed, and is what its digest says: plimsoll image seal seals it anew{DIM:#}"
            )),
            LayerTrust::Trusted if proof.seal_broken => {
                lines.push(format!("{layer} was touched since it was sealed"));
            }
            _ => {}
        }
    }
    lines
}

fn tell(layer: &str, proof: &LayerProof, verbose: bool, lines: &mut Vec<String>) {
    let path = escape(proof.path.as_bytes());
    if proof.changes.is_empty() {
        lines.push(format!(
            "{RED}{layer} is not what its digest says{RED:#}  {DIM}in {path}{DIM:#}"
        ));
        return;
    }
    let shown = if verbose { usize::MAX } else { SHOWN };
    for change in proof.changes.iter().take(shown) {
        lines.push(format!("{RED}{layer}{RED:#}: {}", change_line(change)));
    }
    if proof.changes.len() > shown {
        let more = proof.changes.len() - shown;
        lines.push(format!(
            "{DIM}… {more} more: plimsoll image verify -v lists them{DIM:#}"
        ));
    }
}

/// Returns the short form of a digest.
fn short(diff_id: &DiffId) -> String {
    let hex: String = diff_id.digest().hex().chars().take(12).collect();
    format!("sha256:{hex}")
}
