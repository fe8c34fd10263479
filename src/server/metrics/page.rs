//! One page of metrics in the making: families with a name, a help text and samples, written as they are collected.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelValue, LabelValueEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::domain::HistogramView;

/// The labels of one sample.
pub(super) type Labels<'a> = Vec<(&'static str, Label<'a>)>;

/// The value of a label. The crate writes values as they are; this one escapes what would end them.
#[derive(Debug)]
pub(super) struct Label<'a>(Cow<'a, str>);

impl<'a> From<&'a str> for Label<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Label<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl EncodeLabelValue for Label<'_> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        use fmt::Write;
        if !self.0.contains(['\\', '"', '\n']) {
            return encoder.write_str(&self.0);
        }
        self.0.chars().try_for_each(|character| match character {
            '\\' => encoder.write_str("\\\\"),
            '"' => encoder.write_str("\\\""),
            '\n' => encoder.write_str("\\n"),
            other => encoder.write_char(other),
        })
    }
}

/// Makes [`Labels`]: `labels!["app_id" => id]`.
macro_rules! labels {
    ($($name:literal => $value:expr),* $(,)?) => { vec![$(($name, $crate::server::metrics::page::Label::from($value))),*] };
}
pub(super) use labels;

/// Where families are written.
#[derive(Debug)]
pub(super) struct Page<'a>(DescriptorEncoder<'a>);

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// A counter whose name ends in `_total`, which is not to be given.
    pub(super) fn counter<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// The same in seconds.
    pub(super) fn counter_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    /// A counter by a name that other brokers gave it, without `_total`. OpenMetrics has no counter of such a name; it has no type then.
    pub(super) fn old_counter<'l>(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels<'l>, u64)>) -> fmt::Result {
        self.samples(name, help, MetricType::Unknown, samples)
    }

    /// Something that goes up and down.
    pub(super) fn gauge<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.samples(name, help, MetricType::Gauge, samples)
    }

    /// A gauge with one sample, and no labels.
    pub(super) fn plain_gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: V) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// How values are spread.
    pub(super) fn histogram<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, HistogramView)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, view) in samples {
            let mut sample = family.encode_family(&labels)?;
            sample.encode_histogram::<NoLabelSet>(view.sum, view.count(), &view.buckets, None)?;
        }
        Ok(())
    }

    /// What does not change while the process runs.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: &Labels<'_>) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn samples<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}
