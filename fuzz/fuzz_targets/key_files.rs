//! Key files: private keys in PKCS#8, public ones in PEM, minisign's notation or hexadecimal digits; signatures.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use upright_fuzz::within;
use upright_keys::{KeyPair, Passphrase, PublicKey, Signature};

/// What opening a key file may take: its key derivation is made to take memory.
const MEMORY: usize = 160 << 20;

fuzz_target!(|text: &str| {
    within(MEMORY, || {
        if let Ok(key) = text.parse::<PublicKey>() {
            assert_eq!(key.to_pem().parse(), Ok(key));
            assert_eq!(key.to_minisign().parse(), Ok(key));
        }
        let _ = text.parse::<Signature>();
        let path = Path::new("key");
        for passphrase in [None, Some(&Passphrase::from("passphrase"))] {
            if let Ok(pair) = KeyPair::from_pem(text, passphrase, path) {
                let again = pair.to_pem(None).and_then(|pem| KeyPair::from_pem(&pem, None, path));
                assert!(again.is_ok_and(|again| public(&again) == public(&pair)));
            }
        }
    });
});

fn public(pair: &KeyPair) -> &PublicKey {
    upright_keys::Signer::public(pair)
}
