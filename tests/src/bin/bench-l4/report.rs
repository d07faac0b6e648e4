//! The table, or JSON.

use crate::measure::{Figure, Load};

const METHOD: &str = "program: BPF run time (run_time_ns / run_cnt) of the XDP program that is attached to the edge's \
                      interface, the kernel's clock reads included, while a generator at the other end of a veth \
                      cable sends frames of flows at random; whole path: wall time of one CPU that makes, receives, \
                      forwards and drops the frames, without these clock reads";

pub(crate) struct Report {
    load: Load,
    figures: Vec<Figure>,
    pub(crate) failed: Vec<String>,
}

impl Report {
    pub(crate) fn new(load: Load) -> Self {
        Self { load, figures: Vec::new(), failed: Vec::new() }
    }

    /// More lines; each is told at once, as all of them take minutes.
    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        figures.iter().for_each(progress);
        self.figures.extend(figures);
    }

    pub(crate) fn print_table(&self) {
        println!("{METHOD}; {} frames a round, median of {} rounds\n", self.load.frames, self.load.rounds);
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["work", "flows", "program, ns", "above drop", "whole path, ns", "above drop"]);
        for figure in &self.figures {
            let drop = self.drop(figure);
            let ns = |value: Option<f64>| value.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
            let above = |value: Option<f64>, drop: Option<f64>| ns(value.zip(drop).map(|(value, drop)| value - drop));
            table.add_row([
                format!("{}, {}", figure.name, family(figure)),
                flows(figure),
                ns(figure.program),
                above(figure.program, drop.and_then(|drop| drop.program)),
                ns(Some(figure.path)),
                above(Some(figure.path), drop.map(|drop| drop.path)),
            ]);
        }
        println!("{table}");
    }

    pub(crate) fn print_json(&self) {
        let one = |figure: &Figure| {
            serde_json::json!({
                "work": figure.name, "family": family(figure), "flows": figure.flows, "program_ns": figure.program,
                "path_ns": figure.path,
            })
        };
        let figures: Vec<_> = self.figures.iter().map(one).collect();
        let report = serde_json::json!({
            "method": METHOD, "frames": self.load.frames, "rounds": self.load.rounds, "figures": figures,
            "failed": self.failed,
        });
        println!("{report:#}");
    }

    /// The empty program of the same family, with many flows where there are many.
    fn drop(&self, figure: &Figure) -> Option<&Figure> {
        let many = figure.flows.is_none_or(|flows| flows > 1);
        self.figures.iter().find(|drop| {
            drop.name == "empty drop" && drop.v6 == figure.v6 && drop.flows.is_some_and(|flows| flows > 1) == many
        })
    }
}

fn progress(figure: &Figure) {
    let program = figure.program.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
    eprintln!(
        "{}, {}, {} flows: {program} ns, {:.0} ns whole",
        figure.name,
        family(figure),
        flows(figure),
        figure.path
    );
}

fn family(figure: &Figure) -> &'static str {
    if figure.v6 { "IPv6" } else { "IPv4" }
}

fn flows(figure: &Figure) -> String {
    figure.flows.map_or("each its own".to_owned(), |flows| flows.to_string())
}
