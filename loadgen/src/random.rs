//! A small seeded generator (SplitMix64), so that a seed names the same choices on every machine and in every release.
//! It is not for secrets.

/// A sequence of numbers that its seed determines.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// The `stream`-th of many independent sequences of one seed.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut seeds = Self { state: seed };
        let first = seeds.next();
        Self { state: first ^ stream.wrapping_mul(0xD134_2543_DE82_EF95) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0. The bias of the remainder does not matter for ends this small.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A time until an event that happens once in `mean_ns` on average.
    pub(crate) fn exponential_ns(&mut self, mean_ns: f64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (-(1.0 - uniform).ln() * mean_ns) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_sequence_and_streams_differ() {
        let sequence = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.next(), random.next(), random.next()]
        };
        assert_eq!(sequence(1, 2), sequence(1, 2));
        assert_ne!(sequence(1, 2), sequence(1, 3));
        assert_ne!(sequence(1, 2), sequence(2, 2));
    }

    #[test]
    fn exponential_times_have_their_mean() {
        let mut random = Random::new(7, 0);
        let sum: u64 = (0..100_000).map(|_| random.exponential_ns(1_000.0)).sum();
        let mean = sum as f64 / 100_000.0;
        assert!((mean - 1_000.0).abs() < 20.0, "{mean}");
    }
}
