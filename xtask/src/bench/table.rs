//! What came of it: medians, ratios, the bars they are held against, and what they were before.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    contest::{Cost, Op, Peer},
    repo::Size,
};

/// The format of the file this version writes, and the only one it reads.
const FORMAT: u32 = 1;

/// All costs, by what was done.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<(Size, Op), BTreeMap<Peer, Vec<Cost>>>);

/// Figures that are kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    format: u32,
    rows: Vec<Row>,
}

/// What one operation came to: medians.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    size: String,
    op: Op,
    ours_ms: f64,
    links_ms: f64,
    checkout_ms: f64,
    /// Ours, measured in the floor that the bar names.
    ratio: f64,
    peak_mib: f64,
    rounds: usize,
}

/// Returns the floor an operation is held against, and how many times as long it may take; no bar
/// stands for a first deploy of another size than M.
fn bar(size: Size, op: Op) -> (Peer, Option<f64>) {
    match (op, size) {
        (Op::First, Size::M) => (Peer::Checkout, Some(0.7)),
        (Op::First, _) => (Peer::Checkout, None),
        (Op::Incremental, Size::S) => (Peer::Links, Some(0.5)),
        (Op::Incremental, Size::M) => (Peer::Links, Some(0.7)),
        (Op::Incremental, Size::L) => (Peer::Links, Some(0.8)),
        (Op::Redeploy, _) => (Peer::Links, Some(0.3)),
        (Op::Rollback, _) => (Peer::Links, Some(1.0)),
    }
}

/// How much memory may be held, in MiB.
const MEMORY: f64 = 150.0;

impl Table {
    pub(crate) fn add(&mut self, size: Size, op: Op, peer: Peer, cost: Cost) {
        self.0.entry((size, op)).or_default().entry(peer).or_default().push(cost);
    }

    fn rows(&self) -> Vec<(Row, Option<f64>)> {
        let rows = self.0.iter().map(|((size, op), peers)| {
            let costs = |peer| peers.get(&peer).map(Vec::as_slice).unwrap_or_default();
            let ms = |peer| median(costs(peer).iter().map(|cost| cost.seconds * 1000.0).collect());
            let (floor, bar) = bar(*size, *op);
            let ours = costs(Peer::Ours);
            let peak = ours.iter().map(|cost| cost.peak_kib).max().unwrap_or_default();
            let row = Row {
                size: format!("{size:?}"),
                op: *op,
                ours_ms: rounded(ms(Peer::Ours), 10.0),
                links_ms: rounded(ms(Peer::Links), 10.0),
                checkout_ms: rounded(ms(Peer::Checkout), 10.0),
                ratio: rounded(ms(Peer::Ours) / ms(floor), 100.0),
                peak_mib: rounded(peak as f64 / 1024.0, 10.0),
                rounds: ours.len(),
            };
            (row, bar)
        });
        rows.collect()
    }

    /// Prints the table beside what is kept. Returns how many bars are missed.
    pub(crate) fn show(&self, kept: &Path) -> Result<usize> {
        let before = load(kept)?;
        let mut missed = 0;
        println!(
            "\n| what | ee-deploy, ms | links, ms | checkout, ms | ratio | bar | before | memory, MiB |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for (row, bar) in self.rows() {
            let too_slow = bar.is_some_and(|bar| row.ratio > bar);
            let too_large = row.peak_mib > MEMORY;
            missed += usize::from(too_slow) + usize::from(too_large);
            let before = before.iter().find(|it| it.size == row.size && it.op == row.op);
            println!(
                "| {:?}, {} | {} | {} | {} | {}{} | {} | {} | {}{} |",
                row.op,
                row.size,
                row.ours_ms,
                row.links_ms,
                row.checkout_ms,
                row.ratio,
                if too_slow { " MISSED" } else { "" },
                bar.map(|bar| bar.to_string()).unwrap_or_default(),
                before.map(|it| it.ratio.to_string()).unwrap_or_default(),
                row.peak_mib,
                if too_large { " MISSED" } else { "" },
            );
        }
        println!();
        Ok(missed)
    }

    /// Writes the figures down; those of sizes that were not measured stay.
    pub(crate) fn keep(&self, kept: &Path) -> Result<()> {
        let mut rows = load(kept)?;
        for (row, _) in self.rows() {
            rows.retain(|it| it.size != row.size || it.op != row.op);
            rows.push(row);
        }
        let order = |size: &str| "SML".find(size).unwrap_or_default();
        rows.sort_by_key(|row| (order(&row.size), row.op));
        let mut text = serde_json::to_string_pretty(&Kept { format: FORMAT, rows })?;
        text.push('\n');
        fs::write(kept, text).with_context(|| kept.display().to_string())
    }
}

fn load(kept: &Path) -> Result<Vec<Row>> {
    if !kept.exists() {
        return Ok(Vec::new());
    }
    let kept: Kept = serde_json::from_str(&fs::read_to_string(kept)?)?;
    ensure!(kept.format == FORMAT, "the figures kept have format {}", kept.format);
    Ok(kept.rows)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => at(odd / 2),
        even => (at(even / 2) + at(even / 2 - 1)) / 2.0,
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        let costs =
            [(Peer::Ours, [0.030, 0.010, 0.020]), (Peer::Links, [0.1, 0.1, 0.1]), (Peer::Checkout, [0.3; 3])];
        for (peer, seconds) in costs {
            for seconds in seconds {
                table.add(Size::S, Op::Redeploy, peer, Cost { seconds, peak_kib: 2048 });
            }
        }
        table
    }

    #[test]
    fn medians_are_compared_with_the_bar_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("bench.json");
        let mut table = table();
        assert_eq!(table.show(&kept).unwrap(), 0);
        table.keep(&kept).unwrap();
        let rows = load(&kept).unwrap();
        assert_eq!((rows.len(), rows[0].ratio, rows[0].ours_ms, rows[0].peak_mib), (1, 0.2, 20.0, 2.0));
        for _ in 0..9 {
            table.add(Size::S, Op::Redeploy, Peer::Ours, Cost { seconds: 0.2, peak_kib: 200 << 10 });
        }
        // Too slow, and too much memory.
        assert_eq!(table.show(&kept).unwrap(), 2);
        table.keep(&kept).unwrap();
        assert_eq!(load(&kept).unwrap().len(), 1);
    }

    #[test]
    fn an_even_number_of_values_has_a_median_too() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
