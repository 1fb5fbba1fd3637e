//! What the cases came to.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use crate::story::Teller;

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Seconds from the failure to the old release's login prompt; none where it never stopped running.
    pub seconds: Option<u64>,
    /// How many boots there were from the switch to that prompt, it included.
    pub boots: usize,
    /// What `upright why` says first.
    pub why: String,
}

/// All cases.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<usize, (&'static str, Result<Ended, String>)>,
}

impl Table {
    pub(super) fn note(&mut self, number: usize, name: &'static str, teller: Teller, case: Result<Ended>) {
        match &case {
            Ok(Ended { seconds: Some(seconds), boots, .. }) => {
                teller.say(&format!(
                    "{name}: the old release runs {seconds} s after the failure, in boot {boots}"
                ));
            }
            Ok(_) => teller.say(&format!("{name}: as it should be, and the old release never stopped")),
            Err(error) => teller.say(&format!("{name}: FAILED: {error:#}")),
        }
        self.rows.insert(number, (name, case.map_err(|error| format!("{error:#}"))));
    }

    /// How many cases did not end as they should.
    pub fn failures(&self) -> usize {
        self.rows.values().filter(|(_, case)| case.is_err()).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:16} {:>8} {:>6}  what an operator reads", "case", "recovery", "boots")?;
        for (name, case) in self.rows.values() {
            match case {
                Ok(Ended { seconds, boots, why }) => {
                    let seconds = seconds.map_or("-".to_owned(), |seconds| format!("{seconds} s"));
                    writeln!(f, "{name:16} {seconds:>8} {boots:>6}  {why}")?;
                }
                Err(error) => {
                    writeln!(
                        f,
                        "{name:16} {:>8} {:>6}  {}",
                        "FAILED",
                        "",
                        error.lines().next().unwrap_or_default()
                    )?;
                }
            }
        }
        write!(f, "faults: {} cases, failures: {}", self.rows.len(), self.failures())
    }
}
