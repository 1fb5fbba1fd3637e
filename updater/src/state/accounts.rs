//! The users and groups of a host and of its image in one file.
//!
//! A host whose `/etc/passwd` was changed has one of its own, which hides the image's: the users that a release brings would be
//! missing there, and those that its services run as with them. So what the image knows and the host does not is added. What the
//! host says counts: a changed line stays changed.

/// The largest such file, in bytes: entries of one are looked for in the other.
pub(super) const MAX: usize = 1 << 20;

/// The host's file with the entries of the image's that it lacks; none if it lacks none. In `passwd` and `group` an entry whose
/// number the host has given to somebody else is left out.
pub(super) fn merge(name: &str, host: &[u8], image: &[u8]) -> Option<Vec<u8>> {
    let numbered = matches!(name, "passwd" | "group");
    let mut merged = host.to_vec();
    for line in entries(image) {
        let is_taken = |other: &[u8]| {
            field(other, 0) == field(line, 0) || (numbered && field(other, 2) == field(line, 2))
        };
        if entries(host).any(is_taken) {
            continue;
        }
        if merged.last().is_some_and(|byte| *byte != b'\n') {
            merged.push(b'\n');
        }
        merged.extend_from_slice(line);
        merged.push(b'\n');
    }
    (merged.len() > host.len()).then_some(merged)
}

fn entries(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#')
}

fn field(line: &[u8], number: usize) -> Option<&[u8]> {
    line.split(|byte| *byte == b':').nth(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(name: &str, host: &str, image: &str) -> Option<String> {
        merge(name, host.as_bytes(), image.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_images_new_users_are_added_and_the_hosts_word_counts() {
        let host = "root:x:0:0::/root:/bin/zsh\nanna:x:1000:1000::/home/anna:/bin/sh";
        let image = "root:x:0:0::/root:/bin/sh\ndb:x:105:105::/:/sbin/nologin\nlate:x:1000:1:::\n";
        let expected = format!("{host}\ndb:x:105:105::/:/sbin/nologin\n");
        assert_eq!(merged("passwd", host, image), Some(expected.clone()));
        assert_eq!(merged("passwd", &expected, image), None, "once is enough");
    }

    #[test]
    fn the_third_field_of_shadow_is_no_number_of_anybodys() {
        let (host, image) = ("root:$y$new:19000:0:::::\n", "root:*:19000::\ndb:!:19000:::::\n");
        assert_eq!(merged("shadow", host, image), Some(format!("{host}db:!:19000:::::\n")));
    }

    #[test]
    fn nothing_is_added_to_what_is_whole() {
        for image in ["", "\n\n", "# note\n", "root:*:::::\n"] {
            assert_eq!(merged("gshadow", "root:x::\n", image), None);
        }
    }
}
