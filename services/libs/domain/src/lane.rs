//! The four lanes of a mailbox.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// How urgent a message is; each lane has a dense sequence of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// First of all.
    Critical,
    /// Before normal.
    High,
    /// The default.
    Normal,
    /// When nothing better waits.
    Low,
}

impl Lane {
    /// Most urgent first.
    pub const ALL: [Lane; 4] = [Lane::Critical, Lane::High, Lane::Normal, Lane::Low];

    /// How many entries of the lane go into one round of a read (delivery, rule 4).
    pub fn weight(self) -> usize {
        match self {
            Lane::Critical => 8,
            Lane::High => 4,
            Lane::Normal => 2,
            Lane::Low => 1,
        }
    }

    /// The word in the daemon protocol.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Critical => "critical",
            Lane::High => "high",
            Lane::Normal => "normal",
            Lane::Low => "low",
        }
    }

    /// The letter in composed message ids.
    pub fn letter(self) -> char {
        match self {
            Lane::Critical => 'c',
            Lane::High => 'h',
            Lane::Normal => 'n',
            Lane::Low => 'l',
        }
    }

    /// The lane of a letter.
    pub fn from_letter(letter: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| letter.len() == 1 && letter.starts_with(lane.letter()))
    }

    /// The lane of a word.
    pub fn from_name(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

/// One value for each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PerLane<T>([T; 4]);

impl<T> PerLane<T> {
    /// Makes each value from its lane.
    pub fn from_fn(mut make: impl FnMut(Lane) -> T) -> Self {
        PerLane(Lane::ALL.map(&mut make))
    }

    /// Lanes and values, most urgent first.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, &T)> {
        Lane::ALL.into_iter().zip(&self.0)
    }

    /// Lanes and values, most urgent first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Lane, &mut T)> {
        Lane::ALL.into_iter().zip(&mut self.0)
    }

    /// Applies a function to each value.
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> PerLane<U> {
        PerLane::from_fn(|lane| f(&self[lane]))
    }
}

impl<T> Index<Lane> for PerLane<T> {
    type Output = T;
    fn index(&self, lane: Lane) -> &T {
        &self.0[lane as usize]
    }
}

impl<T> IndexMut<Lane> for PerLane<T> {
    fn index_mut(&mut self, lane: Lane) -> &mut T {
        &mut self.0[lane as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_letters_lead_back_to_their_lane() {
        for lane in Lane::ALL {
            assert_eq!(Lane::from_name(lane.name()), Some(lane));
            assert_eq!(Lane::from_letter(&lane.letter().to_string()), Some(lane));
        }
        assert_eq!(Lane::from_letter("nn"), None);
        assert_eq!(Lane::from_letter(""), None);
    }
}
