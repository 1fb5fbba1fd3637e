//! The users and groups of a host and of its image in one file.
//!
//! A host whose `/etc/passwd` was changed has one of its own, which hides the image's: the users that a release brings would be
//! missing there, and those that its services run as with them. So what the image knows and the host does not is added. What the
//! host says counts: a changed line stays changed.

/// The largest such file, in bytes: entries of one are looked for in the other.
pub(super) const MAX: usize = 1 << 20;

/// The host's file with the entries of the image's that it lacks, none if it lacks none; and the names of those that are left out. In
/// `passwd` and `group` these are the ones whose number the host has given to somebody else, and users whose group's number is another
/// group's in the host's file of groups (the first of `groups`) than in the image's (the second).
pub(super) fn merge(
    name: &str,
    host: &[u8],
    image: &[u8],
    groups: Option<(&[u8], &[u8])>,
) -> (Option<Vec<u8>>, Vec<String>) {
    let numbered = matches!(name, "passwd" | "group");
    let (mut added, mut left_out) = (Vec::new(), Vec::new());
    for line in entries(image) {
        if entries(host).any(|other| field(other, 0) == field(line, 0)) {
            continue;
        }
        let is_taken = numbered && entries(host).any(|other| field(other, 2) == field(line, 2));
        if is_taken || groups.is_some_and(|(host, image)| is_other_group(host, image, field(line, 3))) {
            left_out.push(String::from_utf8_lossy(field(line, 0).unwrap_or_default()).into_owned());
            continue;
        }
        added.extend_from_slice(line);
        added.push(b'\n');
    }
    if added.is_empty() {
        return (None, left_out);
    }
    // What a line that begins with `+` brings in from elsewhere comes last, or it would count before what is added.
    let end = (0..host.len()).find(|at| {
        let begins = at.checked_sub(1).is_none_or(|before| host.get(before) == Some(&b'\n'));
        begins && host.get(*at) == Some(&b'+')
    });
    let (before, after) = host.split_at(end.unwrap_or(host.len()));
    let mut merged = before.to_vec();
    if merged.last().is_some_and(|byte| *byte != b'\n') {
        merged.push(b'\n');
    }
    merged.extend(added);
    merged.extend_from_slice(after);
    (Some(merged), left_out)
}

/// Whether the group with this number is known on the host, under another name than in the image.
fn is_other_group(host: &[u8], image: &[u8], number: Option<&[u8]>) -> bool {
    let name = |file| entries(file).find(|line| field(line, 2) == number).map(|line| field(line, 0));
    name(host).is_some_and(|of_host| name(image) != Some(of_host))
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
        merge(name, host.as_bytes(), image.as_bytes(), None).0.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_user_whose_number_or_group_is_another_ones_is_left_out_by_name() {
        let host = b"root:x:0:0::/root:/bin/sh\nanna:x:1000:1000:::\n";
        let image = b"db:x:105:105:::\nlate:x:1000:1:::\nweb:x:106:106:::\nlog:x:107:1:::\n";
        let groups_here = &b"root:x:0:\ncontractors:x:105:anna\nweb:x:106:\n"[..];
        let groups_there = &b"root:x:0:\ndb:x:105:\nweb:x:106:\nlog:x:1:\n"[..];
        let (merged, left_out) = merge("passwd", host, image, Some((groups_here, groups_there)));
        let added = b"web:x:106:106:::\nlog:x:107:1:::\n";
        assert_eq!(merged, Some([&host[..], added].concat()));
        assert_eq!(left_out, ["db", "late"]);
        // A group that only this host knows has no member of the image's choice.
        let (_, left_out) = merge("passwd", host, b"db:x:105:105:::\n", Some((groups_here, b"")));
        assert_eq!(left_out, ["db"]);
    }

    #[test]
    fn what_is_added_comes_before_what_another_directory_brings_in() {
        let (host, image) = ("root:x:0:0:::\n+@admins\n+::::::\n", "db:x:105:105:::\n");
        let expected = "root:x:0:0:::\ndb:x:105:105:::\n+@admins\n+::::::\n";
        assert_eq!(merged("passwd", host, image).as_deref(), Some(expected));
        assert_eq!(merged("passwd", "+::::::", image).as_deref(), Some("db:x:105:105:::\n+::::::"));
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
