//! Medians, ratios, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

const OURS: &str = "bailey";

/// CPU seconds a request, by workload (in order of measuring) and edge, one for each round.
#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<(&'static str, BTreeMap<&'static str, Vec<f64>>)>,
}

impl Results {
    /// One round's.
    pub(crate) fn add(&mut self, workload: &'static str, edge: &'static str, seconds: f64) {
        if self.rows.last().is_none_or(|(name, _)| *name != workload) {
            self.rows.push((workload, BTreeMap::new()));
        }
        if let Some((_, edges)) = self.rows.last_mut() {
            edges.entry(edge).or_default().push(seconds);
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<38}", "CPU time a request, median (range)");
        let edges: Vec<&str> = self.rows.first().map(|(_, edges)| edges.keys().copied().collect()).unwrap_or_default();
        for edge in &edges {
            let _ = write!(text, "{edge:>26}");
        }
        let _ = writeln!(text, "{:>18}", "ours / best peer");
        for (workload, measured) in &self.rows {
            let _ = write!(text, "{workload:<38}");
            for edge in &edges {
                let rounds = measured.get(edge).map(Vec::as_slice).unwrap_or_default();
                let _ = write!(text, "{:>26}", shown(rounds));
            }
            let ratio = ratio(measured).map_or("-".into(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(text, "{ratio:>18}");
        }
        text
    }

    /// For programs; microseconds.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(workload, measured)| {
            let edges: BTreeMap<_, _> = measured
                .iter()
                .map(|(edge, rounds)| {
                    let micros: Vec<f64> = rounds.iter().map(|seconds| seconds * 1e6).collect();
                    (*edge, json!({ "median_us": median(&micros), "rounds_us": micros }))
                })
                .collect();
            json!({ "workload": workload, "edges": edges, "ratio_to_best_peer": ratio(measured) })
        });
        json!({ "measure": "user + system CPU time of the edge a request", "results": rows.collect::<Vec<_>>() })
    }
}

fn ratio(measured: &BTreeMap<&'static str, Vec<f64>>) -> Option<f64> {
    let best = measured.iter().filter(|(edge, _)| **edge != OURS).filter_map(|(_, rounds)| median(rounds));
    let best = best.min_by(f64::total_cmp)?;
    Some(median(measured.get(OURS)?)? / best)
}

fn shown(rounds: &[f64]) -> String {
    let Some(middle) = median(rounds) else { return "-".into() };
    let low = rounds.iter().copied().min_by(f64::total_cmp).unwrap_or(middle);
    let high = rounds.iter().copied().max_by(f64::total_cmp).unwrap_or(middle);
    format!("{:.1} us ({:.1}-{:.1})", middle * 1e6, low * 1e6, high * 1e6)
}

/// Of an even number: the mean of the two in the middle.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[half]),
        _ => Some((sorted[half - 1] + sorted[half]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_to_the_best_peers_median() {
        let mut results = Results::default();
        for (edge, rounds) in [("nginx", [2.0, 4.0, 3.0]), ("haproxy", [5.0, 4.0, 9.0]), (OURS, [1.0, 1.5, 9.0])] {
            rounds.into_iter().for_each(|seconds| results.add("w", edge, seconds));
        }
        assert_eq!(ratio(&results.rows[0].1), Some(0.5));
        assert!(results.table().contains("0.50"));
    }

    #[test]
    fn a_median_of_an_even_number_is_between_the_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
