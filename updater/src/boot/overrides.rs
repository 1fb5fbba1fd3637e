//! What makes systemd-boot start another entry than the one its order gives: `loader.conf` on the ESP, and variables that `bootctl`
//! sets. A trial is then never begun, or never left.
//!
//! Source: systemd `src/boot/efi/boot.c` (252, `config_defaults_load_from_file`, `config_default_entry_select`) and `loader.conf(5)`.
//! `LoaderEntryOneShot` is for one boot, and leaves the order as it is afterwards.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Concern;
use super::detect::text;
use super::esp::in_path;

/// The variables, each with what removes it.
const VARIABLES: [(&str, &str); 2] = [
    ("LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "`bootctl set-default \"\"`"),
    ("LoaderEntryPreferred-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "`bootctl set-preferred \"\"`"),
];

/// The keys in `loader.conf`.
const KEYS: [&str; 2] = ["default", "preferred"];

/// More than any `loader.conf` has, in bytes.
const MAX_CONF: u64 = 64 << 10;

/// Where they are on one machine.
#[derive(Debug)]
pub(super) struct Overrides {
    conf: PathBuf,
    efivars: PathBuf,
}

impl Overrides {
    /// Of the machine whose root is at `root` and whose ESP is at `esp`.
    pub(super) fn new(root: &Path, esp: &Path) -> Self {
        Self { conf: esp.join("loader/loader.conf"), efivars: root.join("sys/firmware/efi/efivars") }
    }

    /// Each that is set.
    pub(super) fn concerns(&self) -> io::Result<Vec<Concern>> {
        let mut concerns = Vec::new();
        let conf = self.conf.display();
        for line in self.lines()? {
            concerns.push(Concern {
                says: format!("the line `{line}` in {conf} goes before what an update decides"),
                mend: format!("remove the line from {conf}"),
            });
        }
        for (name, mend) in VARIABLES {
            let path = self.efivars.join(name);
            let entry = text(&path).map_err(|error| in_path("cannot read", &path, &error))?;
            if !entry.is_empty() {
                let name = name.split_once('-').map_or(name, |(name, _)| name);
                let says =
                    format!("the firmware's variable {name} ({entry}) goes before what an update decides");
                concerns.push(Concern { says, mend: mend.to_owned() });
            }
        }
        Ok(concerns)
    }

    /// The lines that name an entry.
    fn lines(&self) -> io::Result<Vec<String>> {
        let mut bytes = Vec::new();
        let read = File::open(&self.conf).and_then(|file| file.take(MAX_CONF).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(|error| in_path("cannot read", &self.conf, &error))?,
        };
        let names_one = |line: &&str| {
            let mut words = line.split_whitespace();
            words.next().is_some_and(|key| KEYS.contains(&key)) && words.next().is_some()
        };
        let conf = String::from_utf8_lossy(&bytes);
        Ok(conf.lines().map(str::trim).filter(names_one).map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_overrides_the_order_of_entries_is_told_with_what_mends_it() {
        let root = tempfile::tempdir().unwrap();
        let esp = root.path().join("efi");
        let overrides = Overrides::new(root.path(), &esp);
        let said = || overrides.concerns().unwrap();
        assert_eq!(said(), []);

        fs::create_dir_all(esp.join("loader")).unwrap();
        let put = |conf: &str| fs::write(esp.join("loader/loader.conf"), conf).unwrap();
        put("timeout 3\n#default acme_*\n  # preferred x\ndefaults x\ndefault\n\nconsole-mode keep\n");
        assert_eq!(said(), []);
        put("timeout 3\n\tdefault  acme_1.0.0*\r\npreferred @saved");
        let lines: Vec<String> = said().into_iter().map(|concern| concern.says).collect();
        assert!(lines[0].starts_with("the line `default  acme_1.0.0*` in "), "{lines:?}");
        assert!(lines[1].starts_with("the line `preferred @saved` in "), "{lines:?}");
        put("timeout 3\n");

        let efivars = root.path().join("sys/firmware/efi/efivars");
        fs::create_dir_all(&efivars).unwrap();
        let set = |name: &str, entry: &str| {
            let value: Vec<u8> = format!("{entry}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
            fs::write(efivars.join(name), [&[7, 0, 0, 0][..], &value].concat()).unwrap();
        };
        set("LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "acme_1.0.0.efi");
        set(VARIABLES[0].0, "");
        assert_eq!(said(), []);
        set(VARIABLES[0].0, "acme_1.0.0.efi");
        set(VARIABLES[1].0, "acme_1.1.0.efi");
        let mends: Vec<String> = said().into_iter().map(|concern| concern.mend).collect();
        assert_eq!(mends, ["`bootctl set-default \"\"`", "`bootctl set-preferred \"\"`"]);
        assert!(said()[0].says.contains("LoaderEntryDefault (acme_1.0.0.efi)"), "{:?}", said());
    }
}
