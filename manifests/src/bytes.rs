//! Numbers of bytes as people read them.

/// Three significant digits and a decimal unit: `298 MB`, `1.21 GB`, `512 B`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// All digits, in groups of three: `1,208,627,200`.
pub fn exact(bytes: u64) -> String {
    let digits = bytes.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (59_499_619, "59.5 MB"),
            (298_400_000, "298 MB"),
            (999_600, "1.00 MB"),
            (1_208_627_200, "1.21 GB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(exact(1_208_627_200), "1,208,627,200");
        assert_eq!(exact(12), "12");
    }
}
