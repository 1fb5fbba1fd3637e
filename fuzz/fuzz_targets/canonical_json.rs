//! Strict JSON: what is read, written and read again is the same value with the same canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_keys::Envelope;
use upright_keys::json::Json;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 400, || {
        let Ok(json) = Json::parse(bytes) else { return };
        let envelope = Envelope::unsigned(json.clone());
        if let Ok(again) = Envelope::parse(&envelope.to_bytes()) {
            assert_eq!(again.signed.canonical(), json.canonical());
        }
    });
});
