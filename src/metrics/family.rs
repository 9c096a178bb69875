//! A metric with one series for each value of a closed label set.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use enum_map::{Enum, EnumMap, Iter};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The series of one metric. Each exists from the start, and finding one is an array access: the library's `Family`
/// takes a lock and looks in a hash map instead.
#[derive(Debug)]
pub struct LabeledFamily<L: Enum, M>(Arc<EnumMap<L, M>>);

impl<L: Enum, M> LabeledFamily<L, M> {
    pub fn from_fn(metric: impl FnMut(L) -> M) -> Self {
        Self(Arc::new(EnumMap::from_fn(metric)))
    }

    /// All series, in the order of their labels.
    pub fn series(&self) -> Iter<'_, L, M> {
        self.0.iter()
    }
}

impl<L: Enum, M: Default> Default for LabeledFamily<L, M> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// A handle to the same series.
impl<L: Enum, M> Clone for LabeledFamily<L, M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: Enum, M> Index<L> for LabeledFamily<L, M> {
    type Output = M;

    fn index(&self, labels: L) -> &M {
        &self.0[labels]
    }
}

impl<L: Enum + EncodeLabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for LabeledFamily<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.series().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(&labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
