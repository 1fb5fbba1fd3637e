//! Writes archives for tests, the malformed ones included.

/// An extended header record; its length counts itself.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length =
        (1..20).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    let mut record = format!("{} {key}=", length.expect("a length")).into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
