//! Interleaved runs and what is made of them: medians, spreads, ratios within one repeat.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// The figures of one run, by their names.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// A candidate and its measurement.
pub(crate) struct Contender<'a> {
    pub name: &'static str,
    pub run: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: &'static str, run: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// All runs of one contender, in the order of the repeats.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub name: &'static str,
    pub samples: Vec<Sample>,
}

impl Series {
    /// The figure's values, one for each repeat that gave it.
    pub(crate) fn values(&self, figure: &str) -> Vec<f64> {
        self.samples.iter().filter_map(|sample| sample.get(figure).copied()).collect()
    }
}

/// Each contender once, in turn, `repeats` times; every other round backwards, so that none always follows another.
pub(crate) fn interleave(repeats: usize, mut contenders: Vec<Contender<'_>>) -> Result<Vec<Series>> {
    let mut series: Vec<_> =
        contenders.iter().map(|one| Series { name: one.name, samples: Vec::new() }).collect();
    for round in 0..repeats {
        let mut order: Vec<_> = contenders.iter_mut().zip(&mut series).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (contender, series) in order {
            let sample = (contender.run)().with_context(|| contender.name)?;
            series.samples.push(sample);
        }
    }
    Ok(series)
}

/// Median, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least, greatest })
    }
}

/// The one of them with the best median. The best of each repeat would be the luckiest one.
pub(crate) fn best<'s>(figure: &str, better: Better, of: &[&'s Series]) -> Option<&'s Series> {
    let ranked = of.iter().filter_map(|one| Some((Spread::of(one.values(figure))?.median, *one)));
    ranked
        .max_by(|(one, _), (other, _)| match better {
            Better::Higher => one.total_cmp(other),
            Better::Lower => other.total_cmp(one),
        })
        .map(|(_, one)| one)
}

/// `ours` by `theirs` in the same repeat.
pub(crate) fn ratio(figure: &str, ours: &Series, theirs: &Series) -> Option<Spread> {
    let pairs = ours.samples.iter().zip(&theirs.samples);
    Spread::of(pairs.filter_map(|(ours, theirs)| Some(ours.get(figure)? / theirs.get(figure)?)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    fn series(name: &'static str, values: &[f64]) -> Series {
        Series { name, samples: values.iter().map(|value| Sample::from([("rate", *value)])).collect() }
    }

    #[test]
    fn the_median_lies_between_the_middle_two() {
        let spread = Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.5, least: 1.0, greatest: 4.0 });
        assert_eq!(Spread::of(vec![]), None);
    }

    /// Each ratio compares with the competitor of the best median, within the same repeat.
    #[test]
    fn ratios_compare_within_a_repeat() {
        let ours = series("a", &[10.0, 20.0, 30.0]);
        let (slow, fast) = (series("b", &[1.0, 1.0, 90.0]), series("c", &[10.0, 10.0, 10.0]));
        let of = [&slow, &fast];
        assert_eq!(best("rate", Better::Higher, &of).unwrap().name, "c");
        assert_eq!(best("rate", Better::Lower, &of).unwrap().name, "b");
        assert!(best("none", Better::Lower, &of).is_none());
        assert_eq!(ratio("rate", &ours, &fast).unwrap().median, 2.0);
        assert_eq!(ratio("none", &ours, &fast), None);
    }

    #[test]
    fn rounds_run_there_and_back() {
        let order = std::cell::RefCell::new(String::new());
        let one = |name: &'static str| {
            Contender::new(name, || {
                order.borrow_mut().push_str(name);
                Ok(Sample::new())
            })
        };
        let series = interleave(2, vec![one("a"), one("b")]).unwrap();
        assert_eq!(order.take(), "abba");
        assert_eq!(series.len(), 2);
    }
}
