//! The host's configuration.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_updater::config::Config;

fuzz_target!(|text: &str| {
    in_proportion(text.as_bytes(), 400, || {
        let outcome = Config::parse(text, Path::new("upright.toml"));
        if let Err(error) = outcome {
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    });
});
