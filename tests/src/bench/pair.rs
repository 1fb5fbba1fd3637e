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
}

impl Tree {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    /// The release that is made of it.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::A => "1.0.0",
            Self::B => "1.1.0",
            Self::C => "1.0.1",
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
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
    /// Both of them.
    pub(super) const ALL: [Self; 2] =
        [Self { old: Tree::A, new: Tree::B }, Self { old: Tree::A, new: Tree::C }];

    /// The channel that offers it.
    pub(super) fn channel(self) -> &'static str {
        match self.new {
            Tree::A => "first",
            Tree::B => "updates",
            Tree::C => "hotfix",
        }
    }

    /// In words.
    pub(super) fn title(self) -> &'static str {
        match self.new {
            Tree::A => "A again",
            Tree::B => "A to B: security and point updates, a new kernel",
            Tree::C => "A to C: a hotfix of OpenSSL",
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
        assert_eq!(Pair::ALL[0].fill("x {old}.img {new}.img {pair}.x"), "x A.img B.img A-B.x");
    }
}
