// SPDX-License-Identifier: Apache-2.0

//! The slope of a series by least squares, and how far it can be trusted.

/// Values over time that are comparable with each other: a reload begins another stretch where what is measured begins anew with it.
pub type Stretch = Vec<(f64, f64)>;

/// How a value grows with time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Growth in one unit of time.
    pub value: f64,
    /// Its standard error. Neighbours in time resemble each other, which leaves fewer independent samples than there are: their
    /// correlation is counted in.
    pub error: f64,
}

impl Slope {
    /// More than chance explains it is above this limit: it is so even when two standard errors are taken off.
    pub fn exceeds(&self, limit: f64) -> bool {
        self.value - 2.0 * self.error > limit
    }

    /// A growth of this limit would be told from none.
    pub fn can_tell(&self, limit: f64) -> bool {
        2.0 * self.error <= limit
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        sum += value;
        count += 1.0;
    }
    sum / count
}

/// The slope that all stretches have in common; each has a level of its own. None where there are too few samples for an error.
pub fn slope(stretches: &[Stretch]) -> Option<Slope> {
    let used: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.len() > 1).collect();
    let mut centred: Vec<Stretch> = Vec::with_capacity(used.len());
    for stretch in used {
        let time = mean(stretch.iter().map(|&(time, _)| time));
        let value = mean(stretch.iter().map(|&(_, value)| value));
        centred.push(stretch.iter().map(|&(at, of)| (at - time, of - value)).collect());
    }
    let points = || centred.iter().flatten().copied();
    let spread: f64 = points().map(|(time, _)| time * time).sum();
    // One degree of freedom for the slope, one for the level of each stretch.
    let freedom = points().count().checked_sub(centred.len() + 1).filter(|&freedom| freedom > 0)?;
    if spread <= 0.0 {
        return None;
    }
    let value = points().map(|(time, value)| time * value).sum::<f64>() / spread;
    let rest = |(time, of): (f64, f64)| of - value * time;
    let squares: f64 = points().map(rest).map(|rest| rest * rest).sum();
    let neighbours = centred.iter().flat_map(|stretch| stretch.windows(2));
    let products: f64 = neighbours.map(|two| rest(two[0]) * rest(two[1])).sum();
    // Of a first-order autoregression, whose mean of n samples is worth that of n * (1 - r) / (1 + r) independent ones.
    let correlation = if squares > 0.0 { (products / squares).clamp(0.0, 0.99) } else { 0.0 };
    let inflation = (1.0 + correlation) / (1.0 - correlation);
    Some(Slope { value, error: (squares / freedom as f64 / spread * inflation).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    fn line(from: usize, to: usize, of: impl Fn(f64) -> f64) -> Stretch {
        (from..to).map(|at| (at as f64, of(at as f64))).collect()
    }

    #[test]
    fn a_line_has_its_slope_and_no_error() {
        let slope = slope(&[line(0, 50, |time| 7.0 + 3.0 * time)]).unwrap();
        assert!((slope.value - 3.0).abs() < 1e-9 && slope.error < 1e-6, "{slope:?}");
        assert!(slope.exceeds(2.9) && !slope.exceeds(3.1) && slope.can_tell(0.1));
    }

    #[test]
    fn stretches_have_levels_of_their_own() {
        let saw = [line(0, 20, |time| 100.0 + time), line(20, 40, |time| 10.0 + time)];
        let slope_of_saw = slope(&saw).unwrap();
        assert!((slope_of_saw.value - 1.0).abs() < 1e-9, "{slope_of_saw:?}");
        let joined = slope(&[saw.concat()]).unwrap();
        assert!(joined.value < 0.0, "a reload must not hide the growth: {joined:?}");
    }

    #[test]
    fn noise_alone_exceeds_nothing_and_growth_below_it_cannot_be_told() {
        let mut random = Random::new(1);
        let mut failed = 0;
        for _ in 0..200 {
            let noise: Stretch = (0..100).map(|at| (f64::from(at), random.unit())).collect();
            let slope = slope(&[noise]).unwrap();
            failed += usize::from(slope.exceeds(0.0));
            assert!(!slope.can_tell(1e-6), "{slope:?}");
        }
        // One in forty by two errors, and what chance adds.
        assert!(failed <= 14, "{failed} of 200");
    }

    #[test]
    fn a_walk_at_random_is_no_growth_that_is_certain() {
        let mut random = Random::new(2);
        let walk = |random: &mut Random| {
            let mut value = 0.0;
            (0..200)
                .map(|at| {
                    value += random.unit() - 0.5;
                    (f64::from(at), value)
                })
                .collect::<Stretch>()
        };
        let plain = |stretch: &Stretch| {
            let spaced: Stretch = stretch.iter().enumerate().map(|(at, &(_, value))| (at as f64, value)).collect();
            slope(&[spaced]).unwrap()
        };
        let exceeding = (0..100).filter(|_| plain(&walk(&mut random)).exceeds(0.0)).count();
        assert!(exceeding < 40, "{exceeding} of 100, where independent samples would make it nearly every second one");
    }

    #[test]
    fn too_few_samples_have_no_slope() {
        for few in [vec![], vec![line(0, 2, |time| time)], vec![line(0, 1, |time| time); 5], vec![vec![(1.0, 2.0); 9]]]
        {
            assert_eq!(slope(&few), None);
        }
    }
}
