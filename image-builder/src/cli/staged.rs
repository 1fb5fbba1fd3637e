//! Documents that wait for signatures, in words.

use crate::repo::ceremony::Staged;

/// What to do with them.
pub(super) fn text(staged: &[Staged]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for document in staged {
        let lacks: Vec<String> = document.lacks.iter().map(ToString::to_string).collect();
        lines.push(format!("{}: {}", document.file.display(), lacks.join(", and ")));
    }
    lines.push(
        "nothing is published yet: sign these with `upright-keys sign FILE --key KEY`, and run the same again".into(),
    );
    lines.join("\n")
}
