//! Counters for Prometheus, in its text exposition format 0.0.4.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

/// Most combinations of labels that one metric keeps; what goes beyond is counted without labels.
const MAX_SERIES: usize = 512;
/// Upper bounds of the buckets of durations, in milliseconds.
const BUCKETS_MS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000, 60_000, 300_000];

/// The metrics of one node. Names begin with `kamil_`.
#[derive(Debug, Default)]
pub struct Metrics {
    families: RwLock<BTreeMap<&'static str, Family>>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: &'static str,
    series: BTreeMap<String, Series>,
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// Only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds so many.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Grows and shrinks.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to the value; a negative number takes away.
    pub fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How durations are distributed, in fixed buckets from 1 ms to 5 min.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BUCKETS_MS.len()],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: std::time::Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BUCKETS_MS.partition_point(|bound| bound.saturating_mul(1_000) < us);
        self.0.counts.get(place).unwrap_or(&self.0.beyond).fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        let within: u64 = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        within + self.0.beyond.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// No metrics yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The counter of this name. By convention the name ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.counter_with(name, help, &[])
    }

    /// The counter of this name and these labels. Keep it where it is used often: finding it costs a lock.
    pub fn counter_with(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        match self.series(name, help, "counter", labels, || Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            Series::Gauge(_) | Series::Histogram(_) => Counter::default(),
        }
    }

    /// The gauge of this name.
    pub fn gauge(&self, name: &'static str, help: &'static str) -> Gauge {
        match self.series(name, help, "gauge", &[], || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            Series::Counter(_) | Series::Histogram(_) => Gauge::default(),
        }
    }

    /// The histogram of this name. By convention the name ends in `_ms`.
    pub fn histogram(&self, name: &'static str, help: &'static str) -> Histogram {
        self.histogram_with(name, help, &[])
    }

    /// The histogram of this name and these labels.
    pub fn histogram_with(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Histogram {
        match self.series(name, help, "histogram", labels, || Series::Histogram(Histogram::default())) {
            Series::Histogram(histogram) => histogram,
            Series::Counter(_) | Series::Gauge(_) => Histogram::default(),
        }
    }

    /// A name that is used for two kinds of metric gives the second user a metric that is not shown.
    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[(&str, &str)],
        new: impl FnOnce() -> Series,
    ) -> Series {
        let key = label_text(labels);
        {
            let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(series) = families.get(name).and_then(|family| family.series.get(&key)) {
                return series.clone();
            }
        }
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, kind, series: BTreeMap::new() });
        if family.kind != kind {
            return new();
        }
        let key = if family.series.len() < MAX_SERIES { key } else { String::new() };
        family.series.entry(key).or_insert_with(new).clone()
    }

    /// All metrics as Prometheus reads them.
    #[must_use]
    pub fn render(&self) -> String {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, family) in &*families {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind);
            for (labels, series) in &family.series {
                series.render(&mut text, name, labels);
            }
        }
        text
    }
}

impl Series {
    fn render(&self, text: &mut String, name: &str, labels: &str) {
        let braced = |more: &str| match (labels.is_empty(), more.is_empty()) {
            (true, true) => String::new(),
            (false, false) => format!("{{{labels},{more}}}"),
            _ => format!("{{{labels}{more}}}"),
        };
        let _ = match self {
            Self::Counter(counter) => writeln!(text, "{name}{} {}", braced(""), counter.get()),
            Self::Gauge(gauge) => writeln!(text, "{name}{} {}", braced(""), gauge.get()),
            Self::Histogram(Histogram(buckets)) => {
                let mut sum = 0;
                for (bound, count) in BUCKETS_MS.iter().zip(&buckets.counts) {
                    sum += count.load(Ordering::Relaxed);
                    let _ = writeln!(text, "{name}_bucket{} {sum}", braced(&format!("le=\"{bound}\"")));
                }
                sum += buckets.beyond.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}_bucket{} {sum}", braced("le=\"+Inf\""));
                let us = buckets.sum_us.load(Ordering::Relaxed);
                let _ = writeln!(text, "{name}_sum{} {}.{:03}", braced(""), us / 1_000, us % 1_000);
                writeln!(text, "{name}_count{} {sum}", braced(""))
            }
        };
    }
}

fn label_text(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (place, (name, value)) in labels.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{separator}{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::new();
        metrics.counter("kamil_steps_total", "Steps.").add(2);
        metrics.counter("kamil_steps_total", "Steps.").inc();
        metrics.counter_with("kamil_http_total", "Requests.", &[("path", "/a\"b"), ("status", "2xx")]).inc();
        metrics.gauge("kamil_queued", "Waiting.").set(-1);
        let times = metrics.histogram("kamil_time_ms", "Time.");
        times.observe(Duration::from_micros(1_000));
        times.observe(Duration::from_micros(1_001));
        times.observe(Duration::from_secs(3_600));
        let text = metrics.render();
        for line in [
            "# TYPE kamil_steps_total counter",
            "kamil_steps_total 3",
            "kamil_http_total{path=\"/a\\\"b\",status=\"2xx\"} 1",
            "kamil_queued -1",
            "kamil_time_ms_bucket{le=\"1\"} 1",
            "kamil_time_ms_bucket{le=\"2\"} 2",
            "kamil_time_ms_bucket{le=\"300000\"} 2",
            "kamil_time_ms_bucket{le=\"+Inf\"} 3",
            "kamil_time_ms_sum 3600002.001",
            "kamil_time_ms_count 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn labels_cannot_grow_without_bound() {
        let metrics = Metrics::new();
        for number in 0..2 * MAX_SERIES {
            metrics.counter_with("kamil_x_total", "X.", &[("n", &number.to_string())]).inc();
        }
        assert!(metrics.render().lines().count() <= MAX_SERIES + 3);
    }
}
