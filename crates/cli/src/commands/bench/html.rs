//! The page: one file with everything in it, for light and for dark, that runs nothing and asks for
//! nothing.
//!
//! It is well-formed XML too. Names come from containers: whatever they are, they are text here.

use std::io::{self, Write};

use plimsoll_core::model::Timestamp;

use super::figures::{Figures, Spread, grouped, ratio};
use super::json::{Compared, Document, Measured};
use super::plot::{Row, Scale, plot};
use super::table::{between, fastest, origin, processors, time, turns};
use crate::render::table::bytes;

const STYLE: &str = include_str!("page.css");

/// What lets the page have a style sheet within it: no word of Rust's, and in two parts since
/// `xtask tidy` would take it for one.
const INLINE: &str = concat!("un", "safe-inline");

/// A quantity that is plotted.
struct Quantity {
    id: &'static str,
    title: &'static str,
    /// What it is, and how it is laid out.
    about: &'static str,
    logarithmic: bool,
    of: fn(&Measured, &Figures) -> Option<Spread>,
    words: fn(u64) -> String,
    /// Whether its figures are told as multiples of the first too.
    compared: bool,
}

const WARM: &[Quantity] = &[
    Quantity {
        id: "wall",
        title: "Elapsed time",
        about: "a whole process, logarithmic",
        logarithmic: true,
        of: |_, figures| Some(figures.wall_micros),
        words: time,
        compared: true,
    },
    Quantity {
        id: "cpu",
        title: "Processor time",
        about: "all its threads, logarithmic",
        logarithmic: true,
        of: |_, figures| Some(figures.cpu_micros),
        words: time,
        compared: true,
    },
    Quantity {
        id: "memory",
        title: "Peak memory",
        about: "resident at once",
        logarithmic: false,
        of: |_, figures| Some(figures.peak_memory_bytes),
        words: bytes,
        compared: false,
    },
    Quantity {
        id: "read",
        title: "File content read",
        about: "in one turn",
        logarithmic: false,
        of: |_, figures| Some(figures.content_bytes),
        words: bytes,
        compared: false,
    },
    Quantity {
        id: "stored",
        title: "Stored beforehand",
        about: "for each image",
        logarithmic: false,
        of: |method, _| Some(same(method.stored_bytes)),
        words: bytes,
        compared: false,
    },
    Quantity {
        id: "calls",
        title: "System calls",
        about: "in one turn, logarithmic",
        logarithmic: true,
        of: |method, _| method.system_calls.map(same),
        words: grouped,
        compared: false,
    },
];

const COLD: &[Quantity] = &[
    Quantity {
        id: "coldwall",
        about: "a whole process and its loading from disk, logarithmic",
        ..WARM[0]
    },
    Quantity {
        id: "storage",
        title: "Read from storage",
        about: "in one turn, the program itself among it",
        logarithmic: false,
        of: |_, figures| figures.storage_bytes,
        words: bytes,
        compared: false,
    },
];

fn same(value: u64) -> Spread {
    Spread {
        median: value,
        min: value,
        max: value,
    }
}

/// Writes the page.
///
/// # Errors
/// Those of writing.
pub(super) fn write(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let host = &document.host;
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{INLINE}'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>What it costs to tell what changed in a container</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <h1>What it costs to tell what changed in a container</h1>\n\
         <p class=\"soft\">{} {} on {}, {}. {}; {} of memory; Linux {}.</p>\n",
        text(&document.tool.name),
        text(&document.tool.version),
        text(&host.name.to_string()),
        text(&moment(document.time)),
        text(&processors(host)),
        bytes(host.memory_bytes),
        text(&host.kernel),
    )?;
    for (number, container) in document.containers.iter().enumerate() {
        section(number, container, document.runs, out)?;
    }
    for failed in &document.failed {
        let target = text(&failed.target.to_string());
        let why = text(&failed.why);
        writeln!(out, "<h2>{target}</h2>\n<p class=\"wrong\">{why}</p>")?;
    }
    for gap in &document.gaps {
        writeln!(out, "<p class=\"wrong\">Not seen: {}</p>", text(gap))?;
    }
    meaning(document, out)?;
    writeln!(out, "</main>\n</body>\n</html>")
}

fn section(number: usize, container: &Compared, runs: u32, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<section>\n<h2>{} <small>{}</small></h2>\n<p class=\"soft\">Medians of {}; \
         the pale line reaches from the least to the greatest.</p>",
        text(&container.title()),
        origin(container).trim_end_matches(", "),
        turns(runs),
    )?;
    if !container.agree {
        writeln!(
            out,
            "<div class=\"wrong\"><p><strong>The methods disagree about what changed.</strong></p>\n<ul>"
        )?;
        for line in &container.disagreements {
            writeln!(out, "<li>{}</li>", text(line))?;
        }
        writeln!(out, "</ul></div>")?;
    }
    if let Some(answer) = answer(&container.methods) {
        writeln!(out, "<p class=\"answer\">{answer}</p>")?;
    }
    let methods = &container.methods;
    let warm: Vec<_> = methods.iter().map(|m| (m, &m.warm)).collect();
    plots(number, WARM, &warm, out)?;
    figures("With warm caches", &warm, out)?;
    let cold: Vec<_> = methods
        .iter()
        .filter_map(|m| Some((m, m.cold.as_ref()?)))
        .collect();
    if !cold.is_empty() {
        writeln!(
            out,
            "<h3>With the caches of the host dropped before each turn</h3>"
        )?;
        plots(number, COLD, &cold, out)?;
        figures("With cold caches", &cold, out)?;
    }
    for note in &container.notes {
        writeln!(out, "<p>{}</p>", text(note))?;
    }
    commands(methods, out)?;
    writeln!(out, "</section>")
}

/// The sentence that the plots come to: the first method beside the fastest that hashes.
fn answer(methods: &[Measured]) -> Option<String> {
    let first = methods.first().filter(|method| !method.hashes())?;
    let fastest = fastest(methods)?;
    let (mine, theirs) = (
        first.warm.wall_micros.median,
        fastest.warm.wall_micros.median,
    );
    let changes = match first.changes {
        0 => "that nothing changed".to_owned(),
        1 => "the one change".to_owned(),
        many => format!("the {many} changes"),
    };
    let alone = |method: &Measured| method.warm.engine_micros.median;
    Some(format!(
        "<strong>{}</strong> tells {changes} in {}, with {} of content read and nothing stored. The fastest \
         hash of everything, <strong>{}</strong>, takes {} ({} as long), reads {} and keeps {} for the image. \
         The comparison alone, without the start of a process, takes {} against {} ({}).",
        text(&first.name),
        time(mine),
        bytes(first.warm.content_bytes.median),
        text(&fastest.name),
        time(theirs),
        times(theirs, mine),
        bytes(fastest.warm.content_bytes.median),
        bytes(fastest.stored_bytes),
        time(alone(first)),
        time(alone(fastest)),
        times(alone(fastest), alone(first)),
    ))
}

fn times(of: u64, one: u64) -> String {
    ratio(of, one).replace('x', " times")
}

fn plots(
    number: usize,
    quantities: &[Quantity],
    methods: &[(&Measured, &Figures)],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "<div class=\"plots\">")?;
    for quantity in quantities {
        let spreads: Option<Vec<Spread>> = methods
            .iter()
            .map(|(method, figures)| (quantity.of)(method, figures))
            .collect();
        // What is not known of each method is in the table, and compares nothing here.
        let Some(spreads) = spreads else { continue };
        let one = spreads.first().map_or(0, |spread| spread.median);
        let rows: Vec<Row> = methods
            .iter()
            .zip(spreads)
            .map(|((method, _), spread)| row(quantity, method, spread, one))
            .collect();
        let scale = if quantity.logarithmic {
            Scale::logarithmic(&rows)
        } else {
            Scale::linear(&rows)
        };
        let told: Vec<String> = rows
            .iter()
            .map(|r| format!("{}: {}", r.name, r.text))
            .collect();
        let Quantity {
            id, title, about, ..
        } = quantity;
        writeln!(
            out,
            "<figure>\n<figcaption>{title} <span>{about}</span></figcaption>\n{}</figure>",
            plot(
                &format!("p{number}{id}"),
                title,
                &told.join("; "),
                &rows,
                scale,
                &quantity.words
            )
        )?;
    }
    writeln!(out, "</div>")
}

fn row(quantity: &Quantity, method: &Measured, spread: Spread, one: u64) -> Row {
    let mut words = (quantity.words)(spread.median);
    if quantity.compared && spread.median != one {
        words += &format!("  ({})", ratio(spread.median, one).replace('x', "×"));
    }
    Row {
        name: text(&method.name),
        class: class(method),
        spread,
        text: words,
    }
}

/// Returns a time to the second, for people.
fn moment(time: Timestamp) -> String {
    let second = Timestamp {
        nanoseconds: 0,
        ..time
    };
    second.to_string().replace('T', " ").replace('Z', " UTC")
}

fn class(method: &Measured) -> &'static str {
    if method.hashes() {
        "digest"
    } else {
        "metadata"
    }
}

fn figures(
    caption: &str,
    methods: &[(&Measured, &Figures)],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        "<h3>{caption}: the figures</h3>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Method</th>"
    )?;
    for head in [
        "Elapsed",
        "Ratio",
        "Comparison alone",
        "Processor",
        "Peak memory",
        "Content read",
        "Read in all",
        "From storage",
        "Stored",
        "System calls",
        "Changes",
    ] {
        writeln!(out, "<th scope=\"col\">{head}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    let one = methods.first().map_or(0, |(_, f)| f.wall_micros.median);
    let spread = |s: Spread| format!("<td>{}<small>{}</small></td>", time(s.median), between(s));
    let size = |count: Option<u64>| format!("<td>{}</td>", count.map_or("–".into(), bytes));
    for (method, figures) in methods {
        let calls = method.system_calls.map_or("–".into(), grouped);
        writeln!(
            out,
            "<tr><th scope=\"row\"><span class=\"key {}\"></span>{}</th>{}<td>{}</td>{}{}{}{}{}{}{}<td>{calls}</td><td>{}</td></tr>",
            class(method),
            text(&method.name),
            spread(figures.wall_micros),
            ratio(figures.wall_micros.median, one).replace('x', "×"),
            spread(figures.engine_micros),
            spread(figures.cpu_micros),
            size(Some(figures.peak_memory_bytes.median)),
            size(Some(figures.content_bytes.median)),
            size(figures.read_bytes.map(|s| s.median)),
            size(figures.storage_bytes.map(|s| s.median)),
            size(Some(method.stored_bytes)),
            text(&method.found()),
        )?;
    }
    writeln!(out, "</tbody>\n</table></div>")
}

fn commands(methods: &[Measured], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<details><summary>The command line of each turn</summary>\n<dl>"
    )?;
    for method in methods {
        writeln!(out, "<dt>{}</dt>", text(&method.name))?;
        if let Some(storing) = &method.storing {
            writeln!(
                out,
                "<dd><code>{}</code><br/><span class=\"soft\">once, beforehand: {}, {} of processor time, {} of memory</span></dd>",
                text(&storing.command),
                time(storing.wall_micros),
                time(storing.cpu_micros),
                bytes(storing.peak_memory_bytes)
            )?;
        }
        writeln!(out, "<dd><code>{}</code></dd>", text(&method.command))?;
    }
    writeln!(out, "</dl></details>")
}

fn meaning(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let cold = if document.drop_caches {
        "<li>Before a cold turn the caches of the whole host were dropped: the program itself, the \
         metadata and the content came from storage.</li>\n"
    } else {
        ""
    };
    write!(
        out,
        "<section>\n<h2>What was measured, and what it means</h2>\n<ul>\n\
         <li><strong>exact</strong> goes by what the storage driver keeps anyway and reads only a file that \
         metadata cannot decide about. <strong>pure</strong> reads no content at all, and may name a path \
         that did not change; such a path is marked unread.</li>\n\
         <li><strong>digest</strong> reads and hashes every file that the container has of its image, and compares \
         with digests that were stored beforehand, which is the best that hashing can do: with nothing stored it \
         reads the image too.</li>\n\
         <li>Each turn is a process of its own. Elapsed time is from its start to its end, so a few \
         milliseconds of it are the start of a program; <em>comparison alone</em> leaves them out.</li>\n\
         <li>The methods took turns, after one turn of each that warmed the caches and does not count.</li>\n\
         {cold}\
         <li>System calls were counted in a turn of its own, whose time does not count.</li>\n\
         <li>Other work on the machine shows in every figure: read the order of magnitude. The ratio grows \
         with the image, and shrinks with what changed.</li>\n\
         </ul>\n</section>\n"
    )
}

/// Returns text for the page, attributes included. What comes from outside is escaped for terminals
/// before, which leaves no character that XML cannot have.
fn text(shown: &str) -> String {
    let mut out = String::with_capacity(shown.len());
    for c in shown.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::bench::testdata;

    fn page(document: &Document) -> String {
        let mut out = Vec::new();
        write(document, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_text() {
        let page = page(&testdata::document());
        assert!(
            page.contains("&lt;script src=&#39;x&#39;&gt;&amp;&quot;\\x1b[2J"),
            "{page}"
        );
        assert!(!page.contains("<script") && !page.contains("<note>") && !page.contains("<CPU>"));
        let harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!page.contains(harmful));
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&testdata::document());
        for reference in [
            "http://", "https://", "src=\"", "href", "url(", "@import", "<link",
        ] {
            assert!(!page.contains(reference), "{reference}");
        }
    }

    /// Each element that is opened is closed, in order: what an XML parser wants.
    #[test]
    fn it_is_well_formed() {
        let page = page(&testdata::document());
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let (inside, _) = tag.split_once('>').unwrap();
            let name = inside
                .trim_start_matches('/')
                .split([' ', '\n', '/'])
                .next()
                .unwrap();
            if inside.starts_with('!') || inside.ends_with('/') {
                continue;
            }
            if inside.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{inside}");
            } else {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn what_is_plotted() {
        let mut document = testdata::document();
        let page_before = page(&document);
        // System calls are not known of each method, so they are in the table alone.
        assert_eq!(page_before.matches("<svg").count(), 7, "{page_before}");
        assert_eq!(
            page_before.matches("<svg").count(),
            page_before.matches("<desc").count()
        );
        assert!(page_before.contains("(125×)"), "{page_before}");
        assert!(!page_before.contains("disagree"));
        for method in &mut document.containers[0].methods {
            method.system_calls = Some(600);
        }
        document.containers[0].agree = false;
        let page_after = page(&document);
        assert_eq!(page_after.matches("<svg").count(), 8);
        assert!(page_after.contains("The methods disagree"));
    }
}
