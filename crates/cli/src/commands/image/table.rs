//! Images for people: a line each, then what is wrong with their layers.

use std::io::{self, Write};

use plimsoll_core::Verdict;
use plimsoll_core::model::escape;
use plimsoll_core::report::v1::images::{Images, VerifiedImage, VerifiedLayer};
use unicode_width::UnicodeWidthStr as _;

use crate::render::layers::{SHOWN, change_line};
use crate::render::table::verdict_style;

/// Writes the table.
///
/// # Errors
/// Those of writing.
pub(super) fn write(document: &Images, verbose: bool, out: &mut dyn Write) -> io::Result<()> {
    if document.images.is_empty() {
        return writeln!(out, "no images");
    }
    let rows: Vec<[String; 5]> =
        std::iter::once(["IMAGE", "RUNTIME", "LAYERS", "SIZE", "VERDICT"].map(str::to_owned))
            .chain(document.images.iter().map(|image| row(image, document)))
            .collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].width())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    for (n, row) in rows.iter().enumerate() {
        let [name, runtime, layers, size, verdict] = row;
        let style = match n.checked_sub(1).and_then(|n| document.images.get(n)) {
            Some(image) => verdict_style(image.verdict),
            None => anstyle::Style::new().dimmed(),
        };
        writeln!(
            out,
            "{name}{:pad$}  {runtime:w1$}  {layers:>w2$}  {size:>w3$}  {style}{verdict}{style:#}",
            "",
            pad = widths[0] - name.width(),
            w1 = widths[1],
            w2 = widths[2],
            w3 = widths[3],
        )?;
    }
    for image in &document.images {
        if let Some(why) = image.identity.as_ref().and_then(|i| i.why.as_ref()) {
            writeln!(out, "\n{}: {why}", name(image))?;
        }
        for gap in &image.gaps {
            let why = escape(gap.why.as_bytes());
            writeln!(out, "\n{}: not seen: {}: {why}", name(image), gap.what)?;
        }
    }
    for (at, layer) in document.layers.iter().enumerate() {
        if layer.verdict != Verdict::Intact {
            writeln!(out)?;
            details(at, layer, document, verbose, out)?;
        }
    }
    let counts = [
        (document.summary.intact, Verdict::Intact),
        (document.summary.violated, Verdict::Violated),
        (document.summary.unknown, Verdict::Unknown),
    ];
    let told: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, verdict)| format!("{count} {}", verdict.as_str()))
        .collect();
    writeln!(out, "\n{}", told.join(", "))
}

fn row(image: &VerifiedImage, document: &Images) -> [String; 5] {
    let layers = image
        .layers
        .iter()
        .filter_map(|at| document.layers.get(*at));
    let bytes: u64 = layers.map(|layer| layer.bytes).sum();
    [
        name(image),
        image.runtime.as_str().to_owned(),
        image.image.layers.len().to_string(),
        indicatif::HumanBytes(bytes).to_string(),
        image.verdict.as_str().to_owned(),
    ]
}

/// Returns what an image is called, escaped.
fn name(image: &VerifiedImage) -> String {
    const SHORT: usize = 12;
    match (image.names.first(), &image.image.id) {
        (Some(name), _) => name.to_string(),
        (None, Some(id)) => id.digest().hex().chars().take(SHORT).collect(),
        (None, None) => "-".to_owned(),
    }
}

/// Writes what is wrong with a layer, and whose it is.
fn details(
    at: usize,
    layer: &VerifiedLayer,
    document: &Images,
    verbose: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let place = |image: &VerifiedImage| {
        let place = image.layers.iter().position(|of| *of == at)?;
        Some(format!("layer {} of {}", place + 1, name(image)))
    };
    let places: Vec<String> = document.images.iter().filter_map(place).collect();
    let head = format!("{} ({})", places.join(", "), layer.diff_id);
    match &layer.rebuilt {
        Some(rebuilt) if rebuilt != layer.diff_id.digest() => {
            writeln!(out, "{head}: what lies on disk has the digest {rebuilt}")?;
            if layer.changes.is_empty() {
                writeln!(
                    out,
                    "  no file can be named: the runtime's record of the layer was altered, or its checksums were"
                )?;
            }
        }
        _ => writeln!(out, "{head}:")?,
    }
    let shown = if verbose { usize::MAX } else { SHOWN };
    for change in layer.changes.iter().take(shown) {
        writeln!(out, "  {}", change_line(change))?;
    }
    if layer.changes.len() > shown {
        let more = layer.changes.len() - shown;
        writeln!(out, "  and {more} more: -v lists them")?;
    }
    for gap in &layer.gaps {
        let why = escape(gap.why.as_bytes());
        writeln!(out, "  ?  {}: {why}", gap.what)?;
    }
    Ok(())
}
