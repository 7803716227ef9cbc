//! Rows of cells, each column as wide as it needs and the whole no wider than the terminal.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr as _;

use super::table::DIM;

/// Cells beneath a head.
#[derive(Debug)]
pub(crate) struct Columns<'c> {
    /// The name of each column.
    pub(crate) head: &'c [&'c str],
    /// A cell a column.
    pub(crate) rows: &'c [Vec<String>],
    /// Columns that are shortened where the terminal is narrow, each with the width that it keeps, in the
    /// order in which they are.
    pub(crate) shrinking: &'c [(usize, usize)],
    /// Whether the last column is of numbers.
    pub(crate) last_is_number: bool,
}

impl Columns<'_> {
    /// Writes them; `style` gives that of a cell by its row and column.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn write(
        &self,
        terminal: Option<usize>,
        out: &mut dyn Write,
        style: impl Fn(usize, usize) -> Style,
    ) -> io::Result<()> {
        let head: Vec<String> = self.head.iter().map(|name| (*name).to_owned()).collect();
        let mut widths = vec![0; head.len()];
        for row in std::iter::once(&head).chain(self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width());
            }
        }
        if let Some(terminal) = terminal {
            for (column, least) in self.shrinking {
                let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
                let excess = total.saturating_sub(terminal);
                if let Some(width) = widths.get_mut(*column) {
                    *width = width.saturating_sub(excess).max(*least.min(width));
                }
            }
        }
        self.line(&head, &widths, out, |_| DIM)?;
        for (at, row) in self.rows.iter().enumerate() {
            self.line(row, &widths, out, |column| style(at, column))?;
        }
        Ok(())
    }

    fn line(
        &self,
        row: &[String],
        widths: &[usize],
        out: &mut dyn Write,
        style: impl Fn(usize) -> Style,
    ) -> io::Result<()> {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let cell = shortened(cell, *width);
            let style = style(column);
            let pad = width.saturating_sub(cell.width());
            // Nothing is padded at the end of a line.
            let (before, after) = match column + 1 == self.head.len() {
                true if self.last_is_number => (pad, 0),
                true => (0, 0),
                false => (0, pad + 2),
            };
            line += &format!("{:before$}{style}{cell}{style:#}{:after$}", "", "");
        }
        writeln!(out, "{line}")
    }
}

/// Returns `text` cut to `width` columns, with an ellipsis where something is left out.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        if cut.width() + unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) >= width {
            break;
        }
        cut.push(c);
    }
    cut + "…"
}
