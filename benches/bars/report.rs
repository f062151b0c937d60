//! What was measured, as a table in Markdown; medians and percentiles.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

/// The table.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 4]>,
}

impl Report {
    /// Adds a row: what, the bar, what was measured, and whether that meets it (`None` where there is no bar).
    pub(crate) fn row(&mut self, what: &str, bar: &str, measured: String, met: Option<bool>) {
        let met = match met {
            Some(true) => "yes",
            Some(false) => "no",
            None => "",
        };
        eprintln!("{what}: {measured}");
        self.rows
            .push([what.to_owned(), bar.to_owned(), measured, met.to_owned()]);
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        writeln!(out, "| what | bar | measured | met |\n|---|---|---|---|")?;
        for row in &self.rows {
            writeln!(out, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// The median, the least and the greatest of some numbers.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    greatest: f64,
}

impl Spread {
    /// Of at least one number.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        Self {
            median: numbers[numbers.len() / 2],
            least: numbers[0],
            greatest: numbers[numbers.len() - 1],
        }
    }
}

impl Display for Spread {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        let Self {
            median,
            least,
            greatest,
        } = self;
        write!(
            out,
            "{median:.digits$} ({least:.digits$}–{greatest:.digits$})"
        )
    }
}

/// The `share` percentile, milliseconds.
pub(crate) fn percentile(sorted: &[Duration], share: usize) -> f64 {
    let place = (sorted.len() * share / 100).min(sorted.len() - 1);
    sorted[place].as_secs_f64() * 1000.0
}
