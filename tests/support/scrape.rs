//! The metrics of a broker, as Prometheus gets them: text in, samples out. Knows the text format, and nothing of the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::{Answer, Broker, Http, eventually};

/// Where a broker says that its metrics are.
pub(crate) fn metrics_address(broker: &Broker) -> SocketAddr {
    let line = |line: String| {
        let (_, rest) = line.split_once("Metrics: http://")?;
        rest.split_once("/metrics")?.0.parse().ok()
    };
    eventually("the broker says where its metrics are", || broker.log_lines().into_iter().find_map(line))
}

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// Type and help text by the name of the family.
    pub(crate) families: BTreeMap<String, (String, String)>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Scrape {
    /// Scrapes in the older text format.
    pub(crate) fn of(broker: &Broker) -> Scrape {
        Scrape::parse(&get(metrics_address(broker), "text/plain").text())
    }

    /// Reads a page; a line that is none of the format is a failure.
    pub(crate) fn parse(page: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no help text: {line}"));
                let former = scrape.families.insert(name.to_owned(), (String::new(), help.to_owned()));
                assert!(former.is_none(), "{name} is there twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                scrape.families.get_mut(name).unwrap_or_else(|| panic!("a type before its help: {line}")).0 = kind.to_owned();
            } else if !line.starts_with('#') {
                scrape.samples.push(sample(line));
            }
        }
        scrape
    }

    /// The samples of one name.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The one sample with these labels, whatever others it has; 0 if there is none.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value));
        self.named(name).filter(fits).map(|sample| sample.value).sum()
    }

    /// The names of all samples.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| sample.name.clone()).collect()
    }
}

/// Asks for the page.
pub(crate) fn get(address: SocketAddr, accept: &str) -> Answer {
    let answer = Http::connect(address).request("GET", "/metrics", &[("Accept", accept)], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

fn sample(line: &str) -> Sample {
    fn bad<T>(line: &str) -> T {
        panic!("this is no sample: {line:?}")
    }
    let (id, value) = line.rsplit_once(' ').unwrap_or_else(|| bad(line));
    let (name, labels) = match id.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| bad(line))),
        None => (id, ""),
    };
    let mut found = BTreeMap::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (key, quoted) = rest.split_once("=\"").unwrap_or_else(|| bad(line));
        // No test has a label with a quote in it.
        let (value, behind) = quoted.split_once('"').unwrap_or_else(|| bad(line));
        found.insert(key.to_owned(), value.to_owned());
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    let value = match value {
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap_or_else(|_| bad(line)),
    };
    Sample { name: name.to_owned(), labels: found, value }
}
