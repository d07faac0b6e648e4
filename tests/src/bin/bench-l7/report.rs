//! Medians, ratios, tables, JSON.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, ContentArrangement, presets};
use serde_json::{Value, json};

use crate::edge::Product;
use crate::workload::Workload;

/// One round of one edge, in the workload's unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// All processes of the edge.
    pub(crate) total: f64,
    /// Bailey's worker process alone.
    pub(crate) worker: Option<f64>,
}

/// All rounds of a workload.
pub(crate) struct Table {
    pub(crate) workload: Workload,
    pub(crate) samples: BTreeMap<Product, Vec<Sample>>,
}

/// What an edge is and what it agreed to.
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) h1: String,
    pub(crate) h2: String,
    /// Session tickets after a full handshake.
    pub(crate) tickets: u64,
}

pub(crate) struct Report {
    pub(crate) rounds: u32,
    pub(crate) facts: BTreeMap<Product, Facts>,
    pub(crate) tables: Vec<Table>,
    /// Rounds that failed.
    pub(crate) failures: Vec<String>,
}

/// Middle, lowest and highest of some rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// None without a sample.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { median, min, max })
    }

    fn text(&self) -> String {
        format!("{} [{}-{}]", figure(self.median), figure(self.min), figure(self.max))
    }

    fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

impl Table {
    fn spread(&self, product: Product) -> Option<Spread> {
        Spread::of(self.samples.get(&product)?.iter().map(|sample| sample.total))
    }

    fn worker(&self) -> Option<Spread> {
        Spread::of(self.samples.get(&Product::Bailey)?.iter().filter_map(|sample| sample.worker))
    }

    /// Median of Bailey by the median of the best peer.
    fn ratio(&self) -> Option<f64> {
        let best = [Product::Nginx, Product::Haproxy].into_iter().filter_map(|peer| Some(self.spread(peer)?.median));
        Some(self.spread(Product::Bailey)?.median / best.min_by(f64::total_cmp)?)
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (product, facts) in &self.facts {
            text.push_str(&format!(
                "{}: {}\n  HTTP/1.1 over {}, HTTP/2 over {}, {} session tickets\n",
                product.name(),
                facts.version,
                facts.h1,
                facts.h2,
                facts.tickets
            ));
        }
        text.push_str(&format!(
            "\nCPU time a request (all processes of the edge), memory a connection; median [min-max] of {} rounds\n",
            self.rounds
        ));
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["work", "unit", "nginx", "HAProxy", "Bailey", "its worker alone", "to best peer", "asked"]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.tables {
            let cell = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.text());
            table.add_row([
                row.workload.name().to_owned(),
                row.workload.unit().to_owned(),
                cell(row.spread(Product::Nginx)),
                cell(row.spread(Product::Haproxy)),
                cell(row.spread(Product::Bailey)),
                cell(row.worker()),
                row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                format!("{:.1}", row.workload.budget()),
            ]);
        }
        text.push_str(&table.to_string());
        for failure in &self.failures {
            text.push_str(&format!("\nfailed: {failure}"));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let edges: BTreeMap<_, _> = self
            .facts
            .iter()
            .map(|(product, facts)| {
                let value = json!({
                    "version": facts.version, "h1": facts.h1, "h2": facts.h2, "session_tickets": facts.tickets,
                });
                (product.name(), value)
            })
            .collect();
        let workloads: Vec<Value> = self.tables.iter().map(row).collect();
        json!({ "rounds": self.rounds, "edges": edges, "workloads": workloads, "failures": self.failures })
    }
}

fn row(table: &Table) -> Value {
    let edges: BTreeMap<_, _> = table
        .samples
        .iter()
        .map(|(product, samples)| {
            let value = json!({
                "total": table.spread(*product).map(|spread| spread.json()),
                "worker": if *product == Product::Bailey { table.worker().map(|spread| spread.json()) } else { None },
                "samples": samples.iter().map(|sample| sample.total).collect::<Vec<_>>(),
            });
            (product.name(), value)
        })
        .collect();
    json!({
        "name": table.workload.name(), "unit": table.workload.unit(), "edges": edges,
        "ratio_to_best_peer": table.ratio(), "asked": table.workload.budget(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(nginx: &[f64], haproxy: &[f64], bailey: &[f64]) -> Table {
        let samples = |values: &[f64]| values.iter().map(|total| Sample { total: *total, worker: None }).collect();
        Table {
            workload: Workload::H1,
            samples: BTreeMap::from([
                (Product::Nginx, samples(nginx)),
                (Product::Haproxy, samples(haproxy)),
                (Product::Bailey, samples(bailey)),
            ]),
        }
    }

    #[test]
    fn median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0].into_iter()), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0].into_iter()).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn ratio_is_to_the_better_peer() {
        assert_eq!(table(&[20.0], &[10.0, 10.0, 90.0], &[8.0]).ratio(), Some(0.8));
        assert_eq!(table(&[20.0], &[], &[10.0]).ratio(), Some(0.5));
        assert_eq!(table(&[20.0], &[10.0], &[]).ratio(), None);
    }
}
