//! Plots as SVG, by hand: a line a method, its median as a dot or a bar, and how far it varied.
//!
//! Places across are percentages and nothing is scaled, so that letters keep their size on a narrow
//! window. Colours are classes, which the page's style sheet gives for light and for dark.

use super::figures::Spread;

/// Height of what belongs to one method, in pixels: its name above, its mark below.
const LINE: usize = 46;
/// Height of the axis beneath.
const AXIS: usize = 24;
/// Where the middle of a mark is, beneath the top of its line.
const MARK: usize = 30;

/// What one method comes to.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name, escaped for the page.
    pub(super) name: String,
    /// Class of its colour.
    pub(super) class: &'static str,
    pub(super) spread: Spread,
    /// The median in words.
    pub(super) text: String,
}

/// How a quantity is laid out across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From nothing on: lengths of bars can be compared.
    Linear { max: u64 },
    /// From one power of ten to another: what is ten times as much is one step to the right, and
    /// lengths mean nothing, so there are dots.
    Logarithmic { from: u32, to: u32 },
}

impl Scale {
    /// Returns the scale that has room for these values.
    pub(super) fn linear(rows: &[Row]) -> Self {
        let max = rows.iter().map(|row| row.spread.max).max();
        Self::Linear {
            max: max.unwrap_or(0).max(1),
        }
    }

    /// The same, by powers of ten.
    pub(super) fn logarithmic(rows: &[Row]) -> Self {
        let min = rows.iter().map(|row| row.spread.min.max(1)).min();
        let max = rows.iter().map(|row| row.spread.max).max();
        let from = min.unwrap_or(1).ilog10();
        // The next power of ten above, so that the last dot is within.
        let to = max.unwrap_or(1).max(2).saturating_sub(1).ilog10() + 1;
        Self::Logarithmic {
            from,
            to: to.max(from + 1),
        }
    }

    /// Returns where a value lies: 0 to 100.
    pub(super) fn place(self, value: u64) -> f64 {
        let place = match self {
            Self::Linear { max } => value as f64 / max as f64,
            Self::Logarithmic { from, to } => {
                ((value.max(1) as f64).log10() - f64::from(from)) / f64::from(to - from)
            }
        };
        (place * 100.0).clamp(0.0, 100.0)
    }

    /// Returns the values that the axis names.
    fn ticks(self) -> Vec<u64> {
        match self {
            Self::Linear { max } => vec![0, max],
            Self::Logarithmic { from, to } => {
                // Five names at most have room on a narrow window.
                let step = (to - from).div_ceil(4);
                (from..=to)
                    .rev()
                    .step_by(step as usize)
                    .map(|power| 10u64.saturating_pow(power))
                    .collect()
            }
        }
    }
}

/// Returns a plot. `title` and `description` are escaped for the page; `id` is of letters and digits,
/// and no other plot's.
pub(super) fn plot(
    id: &str,
    title: &str,
    description: &str,
    rows: &[Row],
    scale: Scale,
    unit: &dyn Fn(u64) -> String,
) -> String {
    let bottom = rows.len() * LINE + 4;
    let height = bottom + AXIS;
    let mut svg = format!(
        "<svg role=\"img\" width=\"100%\" height=\"{height}\" aria-labelledby=\"{id}t {id}d\">\n\
         <title id=\"{id}t\">{title}</title>\n<desc id=\"{id}d\">{description}</desc>\n"
    );
    for tick in scale.ticks() {
        let place = scale.place(tick);
        let anchor = match place {
            0.0 => "start",
            100.0 => "end",
            _ => "middle",
        };
        // At the marks alone, for a line through the names would be hard to read.
        for row in 0..rows.len() {
            let middle = row * LINE + MARK;
            line(
                &mut svg,
                format_args!(
                    "<line class=\"grid\" x1=\"{place:.2}%\" x2=\"{place:.2}%\" y1=\"{}\" y2=\"{}\"/>",
                    middle - 7,
                    middle + 7
                ),
            );
        }
        line(
            &mut svg,
            format_args!(
                "<text class=\"tick\" x=\"{place:.2}%\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
                height - 6,
                round(&unit(tick))
            ),
        );
    }
    for (index, row) in rows.iter().enumerate() {
        mark(&mut svg, index * LINE, row, scale);
    }
    svg += "</svg>\n";
    svg
}

fn mark(svg: &mut String, top: usize, row: &Row, scale: Scale) {
    let Row {
        name,
        class,
        spread,
        text,
    } = row;
    let at = scale.place(spread.median);
    let (least, most) = (scale.place(spread.min), scale.place(spread.max));
    let middle = top + MARK;
    // Above the mark, where it is in nobody's way: the name at the left, the figure at the right.
    line(
        svg,
        format_args!(
            "<text class=\"name\" x=\"0\" y=\"{0}\">{name}</text>\
             <text class=\"figure\" x=\"100%\" y=\"{0}\" text-anchor=\"end\">{text}</text>",
            top + 16
        ),
    );
    match scale {
        Scale::Linear { .. } => line(
            svg,
            format_args!(
                "<rect class=\"track\" x=\"0\" y=\"{0}\" width=\"100%\" height=\"10\"/>\
                 <rect class=\"{class}\" x=\"0\" y=\"{0}\" width=\"{at:.2}%\" height=\"10\"/>",
                middle - 5
            ),
        ),
        Scale::Logarithmic { .. } => line(
            svg,
            format_args!(
                "<line class=\"rail\" x1=\"0\" x2=\"100%\" y1=\"{middle}\" y2=\"{middle}\"/>\
                 <line class=\"range {class}\" x1=\"{least:.2}%\" x2=\"{most:.2}%\" y1=\"{middle}\" y2=\"{middle}\"/>\
                 <circle class=\"{class}\" cx=\"{at:.2}%\" cy=\"{middle}\" r=\"6\"/>"
            ),
        ),
    }
}

/// Returns a number and its unit without zeros that say nothing: the places on an axis are exact.
fn round(words: &str) -> String {
    let Some((number, unit)) = words.split_once(' ') else {
        return words.to_owned();
    };
    let number = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    format!("{number} {unit}")
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.push_str(&text.to_string());
    svg.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(min: u64, median: u64, max: u64) -> Row {
        Row {
            name: "n".into(),
            class: "metadata",
            spread: Spread { median, min, max },
            text: "t".into(),
        }
    }

    #[test]
    fn powers_of_ten() {
        let scale = |rows: &[Row]| Scale::logarithmic(rows);
        let of = |from, to| Scale::Logarithmic { from, to };
        assert_eq!(scale(&[row(3_000, 3_100, 3_200)]), of(3, 4));
        assert_eq!(scale(&[row(1_000, 1_000, 10_000)]), of(3, 4));
        assert_eq!(scale(&[row(999, 1_000, 10_001)]), of(2, 5));
        assert_eq!(scale(&[row(0, 0, 0)]), of(0, 1));
        assert_eq!(scale(&[]), of(0, 1));
        let scale = of(2, 4);
        assert_eq!(scale.place(100), 0.0);
        assert_eq!(scale.place(1_000), 50.0);
        assert_eq!(scale.place(10_000), 100.0);
        assert_eq!(scale.place(0), 0.0);
        assert_eq!(scale.ticks(), [10_000, 1_000, 100]);
        assert!(of(0, 19).ticks().len() <= 5);
    }

    #[test]
    fn from_nothing_on() {
        let scale = Scale::linear(&[row(0, 0, 0), row(1, 50, 200)]);
        assert_eq!(scale.place(0), 0.0);
        assert_eq!(scale.place(50), 25.0);
        assert_eq!(scale.place(200), 100.0);
        assert_eq!(Scale::linear(&[]).place(0), 0.0);
    }

    #[test]
    fn axes_have_round_numbers() {
        for (words, rounded) in [
            ("10.0 ms", "10 ms"),
            ("1.00 s", "1 s"),
            ("100 ms", "100 ms"),
            ("8.1 MiB", "8.1 MiB"),
            ("1,000", "1,000"),
        ] {
            assert_eq!(round(words), rounded);
        }
    }

    #[test]
    fn a_plot_says_what_it_shows() {
        let rows = [row(1, 2, 3), row(10, 20, 30)];
        let svg = plot("p", "T", "D", &rows, Scale::logarithmic(&rows), &|n| {
            n.to_string()
        });
        assert!(svg.contains("<title id=\"pt\">T</title>"), "{svg}");
        assert!(svg.contains("<desc id=\"pd\">D</desc>"), "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        let bars = plot("p", "T", "D", &rows, Scale::linear(&rows), &|n| {
            n.to_string()
        });
        assert_eq!(bars.matches("class=\"metadata\"").count(), 2, "{bars}");
    }
}
