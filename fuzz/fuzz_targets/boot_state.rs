//! What boot loaders keep their choice of a system in, as a disk or a firmware might hold it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_manifests::boot::grub_env::GrubEnv;
use upright_manifests::boot::load_option::{LoadOption, parse_order};
use upright_manifests::boot::uboot_env::{UbootEnv, crc32};

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 200, || {
        if let Ok(written) = GrubEnv::parse(bytes).and_then(|env| env.to_bytes()) {
            let again = GrubEnv::parse(&written).and_then(|env| env.to_bytes());
            assert!(again.is_ok_and(|again| again == written));
        }
        // With the checksum that belongs to it, or nothing would get past that.
        for redundant in [false, true] {
            let Some(data) = bytes.get(if redundant { 5.. } else { 4.. }) else { continue };
            let whole = [&crc32(data).to_le_bytes(), &bytes[4..]].concat();
            if let Ok(written) = UbootEnv::parse(&whole, redundant).and_then(|env| env.to_bytes()) {
                assert_eq!(written.len(), bytes.len());
                assert!(UbootEnv::parse(&written, redundant).is_ok());
            }
        }
        if let Some(option) = LoadOption::parse(bytes) {
            let written = option.to_bytes().expect("no longer than what was read");
            assert_eq!(LoadOption::parse(&written), Some(option));
        }
        parse_order(bytes);
    });
});
