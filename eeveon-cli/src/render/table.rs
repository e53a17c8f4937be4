//! Tables: columns as wide as their widest cell, the last one as long as it likes.

use super::{Line, Ui};
use crate::CliError;

/// Rows under a heading.
pub(crate) struct Table {
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// Starts a table.
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|text| Line::default().dim(text)).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// Writes the table as data for people.
    ///
    /// # Errors
    ///
    /// Standard output cannot be written.
    pub(crate) fn print(self, ui: &Ui) -> Result<(), CliError> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(Line::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = Line::default();
            for (n, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line = line.append(cell);
                if n + 1 < row.len() {
                    line = line.plain(" ".repeat(width.saturating_sub(cell.width()) + 2));
                }
            }
            ui.out(line)?;
        }
        Ok(())
    }
}
