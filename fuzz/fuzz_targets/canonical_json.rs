//! Strict JSON: what is read, written and read again is the same value with the same canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_keys::json::Json;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(json) = Json::parse(bytes) {
        let envelope = upright_keys::Envelope::unsigned(json.clone());
        if let Ok(again) = upright_keys::Envelope::parse(&envelope.to_bytes()) {
            assert_eq!(again.signed.canonical(), json.canonical());
        }
    }
});
