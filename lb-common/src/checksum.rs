//! The Internet checksum (RFC 1071) and its update when fields change (RFC 1624, eqn. 3). Words are taken as they stand
//! in the packet, of whatever byte order: the sum does not care (RFC 1071, 2 (B)).

/// A sum of 16-bit words that is not folded yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const ZERO: Self = Self(0);

    /// Two words.
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// An address.
    #[inline(always)]
    #[must_use]
    pub const fn add_all(self, words: &[u32; 4]) -> Self {
        self.add(words[0]).add(words[1]).add(words[2]).add(words[3])
    }

    /// What another sum has.
    #[inline(always)]
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// `old` gives way to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn replace(self, old: u32, new: u32) -> Self {
        self.add(!old).add(new)
    }

    /// An address gives way to another.
    #[inline(always)]
    #[must_use]
    pub const fn replace_all(self, old: &[u32; 4], new: &[u32; 4]) -> Self {
        self.replace(old[0], new[0]).replace(old[1], new[1]).replace(old[2], new[2]).replace(old[3], new[3])
    }

    /// The checksum of what was summed.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }

    /// The checksum that takes the place of `old` when what was replaced here is replaced under it.
    #[inline(always)]
    pub const fn update(self, old: u16) -> u16 {
        self.add(!old as u32 & 0xffff).checksum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(words: &[u32]) -> u16 {
        words.iter().fold(Sum::ZERO, |sum, word| sum.add(*word)).checksum()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let sum = Sum::ZERO.add(0x0001_f203).add(0xf4f5_f6f7);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    proptest! {
        #[test]
        fn an_update_is_the_checksum_of_the_new_words(
            words in prop::collection::vec(1u32.., 4..40),
            changes in prop::collection::vec((any::<prop::sample::Index>(), 1u32..), 1..6),
        ) {
            let mut new = words.clone();
            let mut delta = Sum::ZERO;
            for (at, word) in changes {
                let at = at.index(new.len());
                delta = delta.replace(new[at], word);
                new[at] = word;
            }
            prop_assert_eq!(delta.update(whole(&words)), whole(&new));
        }

        #[test]
        fn a_right_checksum_sums_to_zero(words in prop::collection::vec(any::<u32>(), 1..40)) {
            let sum = words.iter().fold(Sum::ZERO, |sum, word| sum.add(*word));
            prop_assert_eq!(sum.add(sum.checksum().into()).checksum(), 0);
        }
    }
}
