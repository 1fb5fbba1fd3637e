//! The trees and the pairs of them that updates lead through.

use std::fmt;

/// A root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    /// Debian as it was published.
    A,
    /// The same set of packages with security and point updates, a new kernel among them.
    B,
    /// A with OpenSSL updated: a hotfix.
    C,
    /// The set of A of the next Debian.
    D,
    /// What starts a machine, and nothing else.
    SmallA,
    /// The same hotfix for it.
    SmallC,
    /// A, with compilers and fonts.
    LargeA,
    /// The same hotfix for it.
    LargeC,
}

impl Tree {
    /// Its name, and that of its tar.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::SmallA => "small-A",
            Self::SmallC => "small-C",
            Self::LargeA => "large-A",
            Self::LargeC => "large-C",
        }
    }

    /// The release that is made of it.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::A | Self::SmallA | Self::LargeA => "1.0.0",
            Self::B => "1.1.0",
            Self::C | Self::SmallC | Self::LargeC => "1.0.1",
            Self::D => "2.0.0",
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// What the host runs.
    pub(super) old: Tree,
    /// What it is to run.
    pub(super) new: Tree,
}

impl Pair {
    /// Those that are measured beside the peers.
    pub(super) const COMPARED: [Self; 2] =
        [Self { old: Tree::A, new: Tree::B }, Self { old: Tree::A, new: Tree::C }];

    /// Nearly everything is new.
    pub(super) const MAJOR: Self = Self { old: Tree::A, new: Tree::D };

    /// The hotfix for a small image.
    pub(super) const SMALL: Self = Self { old: Tree::SmallA, new: Tree::SmallC };

    /// The hotfix for a large image.
    pub(super) const LARGE: Self = Self { old: Tree::LargeA, new: Tree::LargeC };

    /// The channel that offers it.
    pub(super) fn channel(self) -> &'static str {
        match self.new {
            Tree::B => "updates",
            Tree::D => "major",
            _ => "hotfix",
        }
    }

    /// In words.
    pub(super) fn title(self) -> &'static str {
        match self.new {
            Tree::B => "A to B: security and point updates, a new kernel",
            Tree::D => "A to D: the next Debian",
            _ => "A to C: a hotfix of OpenSSL",
        }
    }

    /// A command line for the pair: `{old}`, `{new}` and `{pair}` are filled in.
    pub(super) fn fill(self, line: &str) -> String {
        line.replace("{old}", &self.old.to_string())
            .replace("{new}", &self.new.to_string())
            .replace("{pair}", &self.to_string())
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.old, self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_filled_in() {
        assert_eq!(Pair::COMPARED[0].fill("x {old}.img {new}.img {pair}.x"), "x A.img B.img A-B.x");
    }
}
