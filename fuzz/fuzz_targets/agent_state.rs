//! The agent's record, as a file system that lost writes might hold it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use upright_fuzz::in_proportion;
use upright_updater::store::RecordFile;

fuzz_target!(|bytes: &[u8]| {
    in_proportion(bytes, 200, || {
        let file = RecordFile::in_folder(Path::new("state"));
        if let Ok(record) = file.parse(bytes) {
            let written = RecordFile::to_bytes(&record).expect("a record can be written");
            assert!(file.parse(&written).is_ok_and(|again| again == record));
        }
        let _ = upright_updater::fuzzing::record(bytes);
    });
});
