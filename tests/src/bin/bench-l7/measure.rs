//! Rounds in turn, the edge's usage before and after each.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::cpu;
use crate::edge::{Edge, Product};
use crate::lab::Lab;
use crate::load::h2load;
use crate::origin::{LARGE, SMALL};
use crate::report::{Facts, Report, Sample, Table};
use crate::workload::{Context, Effort, IDLE_CONNECTIONS, Workload};

/// Session tickets of the peers when Bailey is not there to follow: what OpenSSL sends by itself.
const PEERS_TICKETS: u64 = 2;

/// Runs everything. A round that failed is in the report, not an error.
pub(crate) fn all(
    lab: &Lab,
    products: &[Product],
    workloads: &[Workload],
    rounds: u32,
    effort: Effort,
) -> Result<Report> {
    let context = Context::new(lab)?;
    let (edges, facts) = start(&context, products)?;
    let tickets = facts.get(&Product::Bailey).map_or(PEERS_TICKETS, |facts| facts.tickets);
    let mut report = Report { rounds, facts, tables: Vec::new(), failures: Vec::new() };
    for &workload in workloads {
        eprintln!("{} ...", workload.name());
        let mut table = Table { workload, samples: BTreeMap::new() };
        for edge in &edges {
            workload.load(&context, edge, Effort::WarmUp).with_context(|| edge.product.name())?;
        }
        for round in 0..rounds as usize {
            for place in 0..edges.len() {
                let edge = &edges[(round + place) % edges.len()];
                let sample = match workload {
                    Workload::Idle => idle(&context, edge.product, tickets),
                    _ => request(&context, edge, workload, effort),
                };
                match sample {
                    Ok(sample) => table.samples.entry(edge.product).or_default().push(sample),
                    Err(error) => {
                        let failure = format!("{}, {}: {error:#}", edge.product.name(), workload.name());
                        eprintln!("failed: {failure}\n{}", edge.output());
                        report.failures.push(failure);
                    }
                }
            }
        }
        report.tables.push(table);
    }
    Ok(report)
}

/// Starts all edges, Bailey first: the peers do as it does with tickets. Checks that each serves the same.
fn start(context: &Context<'_>, products: &[Product]) -> Result<(Vec<Edge>, BTreeMap<Product, Facts>)> {
    let mut edges = Vec::new();
    let mut facts = BTreeMap::new();
    let mut tickets = PEERS_TICKETS;
    let mut order = products.to_vec();
    order.sort_unstable_by_key(|product| *product != Product::Bailey);
    for product in order {
        let edge = Edge::start(product, context.lab, tickets)?;
        let seen = look(context, &edge).with_context(|| format!("{}: {}", product.name(), edge.output()))?;
        if product == Product::Bailey {
            tickets = seen.tickets;
        }
        ensure!(
            seen.tickets == tickets,
            "{} sends {} session tickets, not {tickets}: a full handshake is not the same work for all",
            product.name(),
            seen.tickets
        );
        facts.insert(product, seen);
        edges.push(edge);
    }
    edges.sort_unstable_by_key(|edge| edge.product);
    Ok((edges, facts))
}

fn look(context: &Context<'_>, edge: &Edge) -> Result<Facts> {
    let before = context.client.tickets();
    let h1 = context.runtime.block_on(async {
        let mut connection = context.client.connect(edge.addresses.p256).await?;
        connection.get(SMALL, false).await?;
        connection.get(LARGE, false).await?;
        anyhow::Ok(connection.negotiated)
    })?;
    let tickets = context.client.tickets() - before;
    context.runtime.block_on(async { context.client.connect(edge.addresses.rsa).await?.get(SMALL, true).await })?;
    let h2 = h2load::run(edge.addresses.p256, SMALL.0, (1, 1), 1)?.negotiated;
    Ok(Facts { version: edge.product.version(context.lab)?, h1, h2, tickets })
}

/// CPU time a request, in microseconds.
fn request(context: &Context<'_>, edge: &Edge, workload: Workload, effort: Effort) -> Result<Sample> {
    let before = edge.at_rest()?;
    let requests = workload.load(context, edge, effort)?;
    let spent = cpu::spent(&before, &edge.at_rest()?)?;
    ensure!(requests > 0 && spent.all_ns > 0, "nothing was measured");
    let each = |ns: u64| ns as f64 / 1e3 / requests as f64;
    let worker = (edge.product == Product::Bailey).then(|| each(spent.descendants_ns));
    Ok(Sample { total: each(spent.all_ns), worker })
}

/// Resident memory a connection, in KiB, of an edge that was started for it: a heap that was once larger hides the cost.
fn idle(context: &Context<'_>, product: Product, tickets: u64) -> Result<Sample> {
    let edge = Edge::start(product, context.lab, tickets)?;
    Workload::Idle.load(context, &edge, Effort::WarmUp)?;
    let before = edge.at_rest()?;
    let open = context.runtime.block_on(async {
        let mut open = Vec::new();
        for _ in 0..IDLE_CONNECTIONS {
            let mut connection = context.client.connect(edge.addresses.p256).await?;
            connection.get(SMALL, false).await?;
            open.push(connection);
        }
        anyhow::Ok(open)
    })?;
    let after = edge.at_rest()?;
    context.runtime.block_on(async {
        for mut connection in open {
            connection.get(SMALL, true).await.context("a connection did not stay open")?;
        }
        anyhow::Ok(())
    })?;
    let each = |grown: u64| grown as f64 / 1024.0 / IDLE_CONNECTIONS as f64;
    // An edge whose processes came or went has no growth.
    cpu::spent(&before, &after)?;
    let total = each(after.rss().saturating_sub(before.rss()));
    let worker = || each(after.descendants_rss().saturating_sub(before.descendants_rss()));
    Ok(Sample { total, worker: (product == Product::Bailey).then(worker) })
}
