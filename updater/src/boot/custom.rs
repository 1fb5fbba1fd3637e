//! Any other boot loader, by a program with five verbs.
//!
//! ```text
//! get-primary             prints the name of the slot that is looked at first
//! set-primary NAME TRIES  the switch, in one atomic step: NAME is first, and has TRIES boots to prove itself
//! get-state NAME          prints `good`, `bad`, or `trial LEFT DONE` where boots are counted
//! set-state NAME good     NAME has proven itself: its boots are not counted
//! set-state NAME bad      NAME is passed over while there is another
//! get-current             prints the name of the slot that the boot loader has started
//! ```
//!
//! Exit status 0 says that it is done, and durable; what was set is asked for again, and has to be what is printed. The program may
//! be asked the same again after a crash. These are the verbs that another updater's custom back ends have, so a program written for
//! that one does, if it does not mind one argument more.
//!
//! The boot loader starts `EFI/upright/<slot>.efi`, or what the program makes of it in `set-primary`.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use upright_manifests::name::Slot;

use super::Trust;
use super::choice::Choice;
use super::fuse::Fuse;
use super::names::SlotNames;
use super::per_slot::Register;
use crate::program;

/// The most tries that are asked for.
const MOST_TRIES: u32 = 99;

/// A program that knows the boot loader.
#[derive(Debug)]
pub(super) struct Custom {
    command: Vec<String>,
    time: Duration,
    names: SlotNames,
    fuse: Fuse,
    /// Where this boot remembers which slot it said came up.
    note: Option<PathBuf>,
}

impl Custom {
    /// The program and its first arguments, and how long a verb may take.
    pub(super) fn new(command: Vec<String>, time: Duration, names: SlotNames, fuse: Fuse) -> Self {
        Self { command, time, names, fuse, note: None }
    }

    /// The same, told once a boot what came up: `note` is a file in a folder that is empty at each boot.
    pub(super) fn once_a_boot(self, note: PathBuf) -> Self {
        Self { note: Some(note), ..self }
    }

    fn slot(&self, verb: &[&str]) -> io::Result<Slot> {
        let said = self.ask(verb)?;
        self.names.slot(&said).ok_or_else(|| self.wrong(verb, &said, "the name of a slot"))
    }

    fn state(&self, slot: Slot) -> io::Result<Trust> {
        let verb = ["get-state", self.names.of(slot)];
        let said = self.ask(&verb)?;
        parse_state(&said).ok_or_else(|| self.wrong(&verb, &said, "good, bad, or trial LEFT DONE"))
    }

    /// Records what is known of a slot, and sees whether it is: a release that was left would be started again, or a proven one counted.
    fn set_state(&self, slot: Slot, state: Trust) -> io::Result<()> {
        let (name, word) = (self.names.of(slot), if state == Trust::Bad { "bad" } else { "good" });
        self.tell(&["set-state", name, word])?;
        match self.state(slot)? {
            now if now == state => Ok(()),
            now => Err(io::Error::other(format!(
                "{} says that set-state {name} {word} is done, and get-state {name} still prints {}",
                self.command.join(" "),
                printed(now)
            ))),
        }
    }

    /// Makes a slot the first, and sees whether it is: a release that never boots would be taken for a bad one. What is asked for again
    /// counts, since a program may fail, or be killed, after it was done.
    fn set_primary(&self, slot: Slot, tries: u32) -> io::Result<()> {
        let name = self.names.of(slot);
        self.fuse.step()?;
        let told = self.run(&["set-primary", name, &tries.to_string()]);
        let now = self.slot(&["get-primary"]);
        let command = self.command.join(" ");
        match (told, now) {
            (Ok(_), Ok(now)) if now == slot => Ok(()),
            (Err(error), Ok(now)) if now == slot => {
                tracing::warn!("{error}; get-primary prints {name} all the same");
                Ok(())
            }
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(now)) => Err(io::Error::other(format!(
                "{command} says that set-primary {name} is done, and get-primary still prints {}",
                self.names.of(now)
            ))),
        }
    }

    /// The switch to a release on trial, which a boot loader must not pass over.
    fn switch(&self, slot: Slot, tries: u32) -> io::Result<()> {
        self.set_primary(slot, tries)?;
        match self.state(slot)? {
            Trust::Bad => {
                let (command, name) = (self.command.join(" "), self.names.of(slot));
                let says = format!(
                    "{command} says that set-primary {name} is done, and get-state {name} prints bad"
                );
                Err(io::Error::other(says))
            }
            _ => Ok(()),
        }
    }

    /// A verb that prints one line.
    fn ask(&self, verb: &[&str]) -> io::Result<String> {
        let said = self.run(verb)?;
        let line = said.strip_suffix('\n').unwrap_or(&said);
        match line.contains('\n') {
            true => Err(self.wrong(verb, line, "one line")),
            false => Ok(line.to_owned()),
        }
    }

    /// A verb that changes something.
    fn tell(&self, verb: &[&str]) -> io::Result<()> {
        self.fuse.step()?;
        self.run(verb).map(drop)
    }

    fn run(&self, verb: &[&str]) -> io::Result<String> {
        let words: Vec<String> =
            self.command.iter().cloned().chain(verb.iter().map(ToString::to_string)).collect();
        let ran = program::run(&words, self.time).map_err(io::Error::other)?;
        match ran.status.is_some_and(|status| status.success()) {
            true => Ok(ran.stdout),
            false => Err(io::Error::other(format!("{}: {}", words.join(" "), ran.ended(self.time)))),
        }
    }

    fn wrong(&self, verb: &[&str], said: &str, expected: &str) -> io::Error {
        let said: String = said.chars().take(80).collect();
        let command = self.command.join(" ");
        io::Error::other(format!("{command} {} printed {said:?}, expected {expected}", verb.join(" ")))
    }
}

impl Register for Custom {
    fn name(&self) -> &'static str {
        "custom"
    }

    fn load(&self) -> io::Result<Choice> {
        let first = self.slot(&["get-primary"])?;
        Ok(Choice { first, a: self.state(Slot::A)?, b: self.state(Slot::B)? })
    }

    /// What is not first is made ready before, so that the verb that changes the next boot is the last or the only one.
    fn store(&self, choice: &Choice) -> io::Result<()> {
        let now = self.load()?;
        let (first, other) = (choice.first, choice.first.other());
        let is_trial = |trust| matches!(trust, Trust::Trial { .. });
        if choice.trust(other) == Trust::Good && now.trust(other) != Trust::Good {
            self.set_state(other, Trust::Good)?;
        }
        if is_trial(choice.trust(first)) {
            return self.switch(first, tries(choice.trust(first)));
        }
        if choice.trust(first) == Trust::Good && now.trust(first) != Trust::Good {
            self.set_state(first, Trust::Good)?;
        }
        if choice.trust(other) == Trust::Bad {
            // With the other one passed over, which of them is first plays no part.
            return if now.trust(other) == Trust::Bad { Ok(()) } else { self.set_state(other, Trust::Bad) };
        }
        if now.first != first {
            self.set_primary(first, 1)?;
            self.set_state(first, Trust::Good)?;
        }
        Ok(())
    }

    fn most_tries(&self) -> io::Result<u32> {
        Ok(MOST_TRIES)
    }

    fn started(&self) -> io::Result<Option<Slot>> {
        self.slot(&["get-current"]).map(Some)
    }

    /// Said at each boot, since it is not known whether the boot loader counts; and not more often, since it may be written to flash.
    fn came_up(&self, slot: Slot) -> io::Result<()> {
        let name = self.names.of(slot);
        if self.note.as_ref().is_some_and(|note| fs::read_to_string(note).is_ok_and(|said| said == name)) {
            return Ok(());
        }
        if self.state(slot)? != Trust::Bad {
            self.set_state(slot, Trust::Good)?;
        }
        if let Some(note) = &self.note {
            // Without the note it is said once more.
            let _ = note.parent().map(fs::create_dir_all);
            let _ = fs::write(note, name);
        }
        Ok(())
    }
}

/// What `get-state` prints.
fn printed(trust: Trust) -> String {
    match trust {
        Trust::Good => "good".to_owned(),
        Trust::Bad => "bad".to_owned(),
        Trust::Trial { left, done } => format!("trial {left} {done}"),
    }
}

fn tries(trust: Trust) -> u32 {
    match trust {
        Trust::Trial { left, .. } => left,
        Trust::Good | Trust::Bad => 1,
    }
}

fn parse_state(said: &str) -> Option<Trust> {
    let count = |text: &str| {
        let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    match said.split(' ').collect::<Vec<_>>().as_slice() {
        ["good"] => Some(Trust::Good),
        ["bad"] => Some(Trust::Bad),
        ["trial", left, done] => match (count(left)?, count(done)?) {
            (0, _) => Some(Trust::Bad),
            (left, done) => Some(Trust::Trial { left, done }),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(script: &str, time: Duration) -> Custom {
        let command = ["sh", "-c", script, "boot"].map(str::to_owned).to_vec();
        Custom::new(command, time, SlotNames::default(), Fuse::default())
    }

    #[test]
    fn answers_are_taken_to_the_letter() {
        assert_eq!(parse_state("trial 2 1"), Some(Trust::Trial { left: 2, done: 1 }));
        assert_eq!(parse_state("trial 0 3"), Some(Trust::Bad));
        for bad in
            ["", "Good", "good ", " bad", "trial", "trial 1", "trial +1 0", "trial 1 0 0", "trial 99999 0"]
        {
            assert_eq!(parse_state(bad), None, "{bad:?}");
        }
        let time = Duration::from_secs(60);
        assert_eq!(custom("echo B; echo noise >&2", time).started().unwrap(), Some(Slot::B));
        for (script, expected) in [
            ("echo C", "get-current printed \"C\", expected the name of a slot"),
            ("echo A; echo B", "printed \"A\\nB\", expected one line"),
            ("echo A; echo no flash >&2; exit 4", "get-current: exited with 4: no flash"),
        ] {
            let error = custom(script, time).started().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_came_up_is_said_once_a_boot() {
        let folder = tempfile::tempdir().unwrap();
        let (log, note) = (folder.path().join("log"), folder.path().join("run/came-up"));
        let script = format!("echo $* >>{}; echo good", log.display());
        let said = |slot| {
            custom(&script, Duration::from_secs(60)).once_a_boot(note.clone()).came_up(slot).unwrap();
            fs::read_to_string(&log).unwrap().matches("set-state").count()
        };
        assert_eq!([said(Slot::B), said(Slot::B)], [1, 1]);
        fs::remove_file(&note).unwrap();
        assert_eq!([said(Slot::B), said(Slot::A)], [2, 3]);
    }

    #[test]
    fn a_switch_that_did_not_happen_is_no_switch() {
        let time = Duration::from_secs(60);
        let custom = custom("case $1 in get-primary) echo A;; esac", time);
        custom.set_primary(Slot::A, 1).unwrap();
        let error = custom.set_primary(Slot::B, 3).unwrap_err().to_string();
        assert!(error.contains("set-primary B is done, and get-primary still prints A"), "{error}");
    }

    /// A program that was killed after its last write has done what it was told.
    #[test]
    fn a_switch_that_happened_is_one_whatever_the_program_said() {
        let time = Duration::from_secs(60);
        let done = "case $1 in get-primary) echo B;; set-primary) exit 7;; get-state) echo trial 3 0;; esac";
        custom(done, time).switch(Slot::B, 3).unwrap();
        let error = custom(done, time).switch(Slot::A, 3).unwrap_err().to_string();
        assert!(error.contains("set-primary A 3"), "{error}");
        let bad = custom("case $1 in get-primary) echo B;; get-state) echo bad;; esac", time);
        let error = bad.switch(Slot::B, 3).unwrap_err().to_string();
        assert!(error.contains("set-primary B is done, and get-state B prints bad"), "{error}");
    }

    #[test]
    fn a_verdict_that_was_not_noted_is_no_verdict() {
        let time = Duration::from_secs(60);
        let said = |script: &str, state| custom(script, time).set_state(Slot::B, state);
        said("case $1 in get-state) echo bad;; esac", Trust::Bad).unwrap();
        for (script, state, expected) in [
            (
                "case $1 in get-state) echo good;; esac",
                Trust::Bad,
                "set-state B bad is done, and get-state B still prints good",
            ),
            (
                "case $1 in get-state) echo trial 2 1;; esac",
                Trust::Good,
                "set-state B good is done, and get-state B still prints trial 2 1",
            ),
        ] {
            let error = said(script, state).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_program_that_never_ends_is_killed() {
        let error = custom("sleep 1000", Duration::from_secs(1)).started().unwrap_err().to_string();
        assert!(error.contains("did not end within 1 s and was killed"), "{error}");
    }
}
