//! The plot: the time of each tool on the large image, on a logarithmic scale, as an SVG that can be
//! read on light and on dark.

use std::fmt::Write as _;

use crate::plan::LARGE;
use crate::results::{Place, Results};
use crate::text::time;
use crate::tool::{Role, TOOLS};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 84.0;
const ROW: f64 = 21.0;
const BAR: f64 = 13.0;
/// The scale goes from 100 microseconds to 100 seconds.
const DECADES: (f64, f64) = (2.0, 8.0);

/// What a bar says by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Own,
    Exact,
    Wrong,
    Floor,
}

impl Colour {
    fn class(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Exact => "exact",
            Self::Wrong => "wrong",
            Self::Floor => "floor",
        }
    }
}

struct Bar {
    label: &'static str,
    micros: f64,
    colour: Colour,
}

/// Returns the plot of a run, for the large image with one changed file.
pub(crate) fn render(results: &Results) -> String {
    let panels = [("overlay2", "overlay2 on ext4"), ("btrfs", "btrfs")];
    let mut body = String::new();
    let mut y = 84.0;
    for (driver, title) in panels {
        let bars = bars(results, driver);
        let _infallible = writeln!(
            body,
            r#"<text class="title" x="16" y="{:.0}">{title}</text>"#,
            y
        );
        y += 10.0;
        axis(&mut body, y, bars.len());
        for bar in &bars {
            draw(&mut body, bar, y);
            y += ROW;
        }
        y += 52.0;
    }
    let height = y - 12.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\" \
         aria-label=\"Time of each tool to find one changed file among 80,000, logarithmic\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"head\" x=\"16\" y=\"26\">One changed file among 80,000: time to find it</text>\n\
         {}{body}</svg>\n",
        legend()
    )
}

/// Both kinds of background: the colours of text and lines follow the reader's scheme, and those of
/// bars stand on either.
const STYLE: &str = "
text{font:13px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#1f2328}
.head{font-size:17px;font-weight:600}.title{font-size:14px;font-weight:600}
.tick{font-size:11px;fill:#6e7781;text-anchor:middle}.name{text-anchor:end}.own-name{text-anchor:end;font-weight:600}
.line{stroke:#8c959f;stroke-opacity:.35;stroke-width:1}
.own{fill:#0f9d8a}.exact{fill:#4c8bd6}.wrong{fill:#e0782f}.floor{fill:#8c959f}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.tick{fill:#9aa4af}}
";

fn legend() -> String {
    let mut out = String::new();
    let mut x = 16.0;
    for (colour, text, width) in [
        (Colour::Own, "Plimsoll: exact", 136.0),
        (Colour::Exact, "right about 100 changes", 200.0),
        (Colour::Wrong, "wrong about some of 100 changes", 262.0),
        (Colour::Floor, "floor: answers nothing", 180.0),
    ] {
        let _infallible = writeln!(
            out,
            r#"<rect class="{}" x="{x:.0}" y="36" width="12" height="12" rx="2"/><text x="{:.0}" y="47">{text}</text>"#,
            colour.class(),
            x + 18.0
        );
        x += width;
    }
    out
}

fn bars(results: &Results, driver: &str) -> Vec<Bar> {
    let place = |changes| Place {
        driver: driver.into(),
        image: LARGE.name.into(),
        changes,
        state: "running".into(),
        cache: "warm".into(),
    };
    let mut bars: Vec<Bar> = TOOLS
        .iter()
        .filter(|about| about.tool != "get-curl")
        .filter_map(|about| {
            let cell = results.cell(&place(1), about.tool)?;
            let answers = [1, 100].map(|changes| results.cell(&place(changes), about.tool));
            let wrong = answers
                .into_iter()
                .flatten()
                .filter_map(|cell| cell.answer.as_ref())
                .any(|answer| !answer.is_exact());
            let colour = match about.role {
                Role::Floor => Colour::Floor,
                _ if wrong => Colour::Wrong,
                Role::Plimsoll => Colour::Own,
                Role::Peer => Colour::Exact,
            };
            Some(Bar {
                label: about.short,
                micros: cell.median(),
                colour,
            })
        })
        .collect();
    bars.sort_by(|a, b| a.micros.total_cmp(&b.micros));
    bars
}

fn x(micros: f64) -> f64 {
    let share = (micros.max(1.0).log10() - DECADES.0) / (DECADES.1 - DECADES.0);
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn axis(out: &mut String, top: f64, rows: usize) {
    let bottom = top + rows as f64 * ROW + 2.0;
    for (micros, text) in [
        (1e2, "100 µs"),
        (1e3, "1 ms"),
        (1e4, "10 ms"),
        (1e5, "100 ms"),
        (1e6, "1 s"),
        (1e7, "10 s"),
        (1e8, "100 s"),
    ] {
        let at = x(micros);
        let _infallible = writeln!(
            out,
            r#"<line class="line" x1="{at:.1}" y1="{top:.0}" x2="{at:.1}" y2="{bottom:.0}"/><text class="tick" x="{at:.1}" y="{:.0}">{text}</text>"#,
            bottom + 14.0
        );
    }
}

fn draw(out: &mut String, bar: &Bar, top: f64) {
    let end = x(bar.micros);
    let name = if bar.colour == Colour::Own {
        "own-name"
    } else {
        "name"
    };
    let middle = top + ROW / 2.0 + 4.5;
    let _infallible = writeln!(
        out,
        r#"<text class="{name}" x="{:.0}" y="{middle:.1}">{}</text><rect class="{}" x="{LEFT:.0}" y="{:.1}" width="{:.1}" height="{BAR:.0}" rx="2"/><text x="{:.1}" y="{middle:.1}">{}</text>"#,
        LEFT - 8.0,
        bar.label,
        bar.colour.class(),
        top + (ROW - BAR) / 2.0,
        (end - LEFT).max(2.0),
        end.max(LEFT + 2.0) + 6.0,
        time(bar.micros)
    );
}
