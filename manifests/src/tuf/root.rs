//! What makes a root one that can be trusted, and one that leads on to another.

use super::document::Document;
use super::error::Problem;
use super::schema::Root;
use super::trusted::{appointed, verify};

impl Document<Root> {
    /// Reads a root that as many of the keys that it appoints have signed as it asks for (5.2, 5.3.4): any byte that
    /// it says is as it was when they did. Whose keys these are is for [`Document::leads_to`] to say.
    pub fn sound_root(bytes: &[u8]) -> Result<Self, Problem> {
        let root = Self::parse(bytes)?;
        root.leads_to(&root)?;
        Ok(root)
    }

    /// Whether as many of the keys that this root appoints have signed `other` as it asks for (5.3.4).
    pub fn leads_to(&self, other: &Self) -> Result<(), Problem> {
        verify(other, &appointed(&self.signed, "root")?)
    }
}
