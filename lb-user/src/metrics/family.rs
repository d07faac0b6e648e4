//! One metric family in the library's model, row by row.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram as Model, LabelPair, Metric, MetricFamily, MetricType};
use std::time::Duration;
use tls_worker::api::{DURATION_BUCKETS, Histogram};

/// Label names and values.
pub(super) type Labels<const N: usize> = [(&'static str, String); N];

/// A family that rows are added to.
pub(super) struct Family(MetricFamily);

impl Family {
    pub(super) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    pub(super) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    pub(super) fn histogram(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    /// A row of a counter or gauge.
    pub(super) fn add<const N: usize>(&mut self, labels: Labels<N>, value: u64) {
        let mut metric = row(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value as f64);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value as f64);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// A row of a gauge that holds a time.
    pub(super) fn add_seconds<const N: usize>(&mut self, labels: Labels<N>, value: Duration) {
        let mut metric = row(labels);
        let mut gauge = Gauge::default();
        gauge.set_value(value.as_secs_f64());
        metric.set_gauge(gauge);
        self.0.mut_metric().push(metric);
    }

    /// A row of a histogram.
    pub(super) fn add_histogram<const N: usize>(&mut self, labels: Labels<N>, seconds: &Histogram) {
        let mut so_far = 0;
        // What is above the last bound is in the count alone; the encoder writes +Inf from it.
        let buckets = DURATION_BUCKETS.iter().zip(seconds.buckets).map(|(bound, count)| {
            so_far += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(so_far);
            bucket
        });
        let mut model = Model::default();
        model.set_bucket(buckets.collect());
        model.set_sample_count(seconds.count());
        model.set_sample_sum(seconds.sum);
        let mut metric = row(labels);
        metric.set_histogram(model);
        self.0.mut_metric().push(metric);
    }

    /// None without a row: the encoder refuses such a family.
    pub(super) fn finish(self) -> Option<MetricFamily> {
        (!self.0.get_metric().is_empty()).then_some(self.0)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(name.into());
        family.set_help(help.into());
        family.set_field_type(kind);
        Self(family)
    }
}

fn row<const N: usize>(labels: Labels<N>) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.into());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::default();
    metric.set_label(labels.into_iter().map(pair).collect());
    metric
}
