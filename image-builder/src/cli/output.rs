//! Results on standard output: JSON for programs, aligned columns for people.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::Exit;
use crate::repo::Error;

/// Whether a document was printed.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// Prints a value as indented JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    PRINTED.store(true, Ordering::Relaxed);
    print(&text)
}

/// Tells how a command failed: as JSON where that was asked for and nothing was printed yet, or as a line on standard error.
/// One document is all that a command prints.
pub(super) fn failure(json: bool, line: &str, exit: Exit) {
    let told = serde_json::json!({ "error": line, "exit": exit as u8 });
    // Who asked for JSON and cannot be given it is told in words.
    if !json || PRINTED.load(Ordering::Relaxed) || writeln!(io::stdout(), "{told}").is_err() {
        note(&format!("error: {line}"));
    }
}

/// Prints a line. A reader that went away, such as `head`, is not an error.
pub(super) fn print(line: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Failed(format!("cannot write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Nobody can be told that this failed, and what is under way goes on without it.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Lines of cells in columns two spaces apart; the cells of columns in `right` end at the same place.
pub(super) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_leave_no_blanks_behind() {
        let rows = [["name", "size"], ["a", "5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows, &[1]), "name  size\na        5");
        assert_eq!(columns(&rows, &[]), "name  size\na     5");
    }
}
