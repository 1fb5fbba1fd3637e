//! What a boot loader's variables call the slots.

use serde::{Deserialize, Serialize};
use upright_manifests::name::Slot;

/// The names of slots a and b, `A` and `B` on most boards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[String; 2]", into = "[String; 2]")]
pub struct SlotNames([String; 2]);

impl Default for SlotNames {
    fn default() -> Self {
        Self(["A", "B"].map(str::to_owned))
    }
}

impl TryFrom<[String; 2]> for SlotNames {
    type Error = String;

    fn try_from(names: [String; 2]) -> Result<Self, String> {
        let is_name =
            |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match names.iter().all(is_name) && names[0] != names[1] {
            true => Ok(Self(names)),
            false => Err(format!("{names:?} are not two different names of letters, digits and _")),
        }
    }
}

impl From<SlotNames> for [String; 2] {
    fn from(names: SlotNames) -> Self {
        names.0
    }
}

impl SlotNames {
    /// A slot's name.
    pub(super) fn of(&self, slot: Slot) -> &str {
        match slot {
            Slot::A => &self.0[0],
            Slot::B => &self.0[1],
        }
    }

    /// The slot with that name.
    pub(super) fn slot(&self, name: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| self.of(*slot) == name)
    }

    /// The slot that comes first in a list of names.
    pub(super) fn first(&self, order: &str) -> Slot {
        order.split_whitespace().find_map(|name| self.slot(name)).unwrap_or(Slot::A)
    }

    /// The list of both names that starts with `first`. Both, so that its length stays.
    pub(super) fn order(&self, first: Slot) -> String {
        format!("{} {}", self.of(first), self.of(first.other()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_scripts_read_them() {
        let names = SlotNames::default();
        assert_eq!((names.first("B A"), names.first("C  B"), names.first("")), (Slot::B, Slot::B, Slot::A));
        assert_eq!(names.order(Slot::B), "B A");
        for bad in [["A", "A"], ["A", ""], ["A", "B C"]] {
            assert!(SlotNames::try_from(bad.map(str::to_owned)).is_err());
        }
    }
}
