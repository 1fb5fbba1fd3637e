//! What the kernel and the firmware enforce: Secure Boot and dm-verity, on a real Debian in a machine.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::debian::{self, DATA_BYTES, Settings};
use super::guest::Guest;
use super::loader::ESP_AT;
use super::publisher::Publisher;
use super::{Place, Teller};
use crate::fixture::noise;
use crate::vm::{Accelerator, Hardware, Machine, secure_boot_key};

/// How long the firmware and the boot loader may take to refuse something.
const REFUSAL_TIME: Duration = Duration::from_secs(180);

/// How large the medium is that 1.1.0 comes from.
const MEDIUM_BYTES: u64 = 512 << 20;

/// The folder on the medium, and where that is mounted.
const EXPORT: &str = "demo-1.1.0";
const MOUNTED: &str = "/mnt";

/// Tells it in `place`.
pub fn under_secure_boot(place: &Place, teller: Teller) -> Result<()> {
    let publisher = Publisher::new(&place.work)?;
    let settings = Settings { url: publisher.url_for_guests(), root_json: publisher.root_json() };
    let (key, certificate) = secure_boot_key(&place.work)?;
    publisher.leave_hosts_alone()?;
    publisher.sign_for_secure_boot(&key, &certificate)?;
    for version in ["1.0.0", "1.1.0"] {
        build(place, &publisher, &settings, version)?;
    }
    publisher.sign_no_more()?;
    build(place, &publisher, &settings, "1.2.0")?;
    publisher.publish("1.0.0")?;
    publisher.publish("1.1.0")?;
    let disk = place.work.join("disk.img");
    publisher.sign_for_secure_boot(&key, &certificate)?;
    publisher.disk("1.0.0", &disk).context("writing the disk image")?;
    let medium = place.work.join("medium.img");
    put_on_medium(&publisher, &medium).context("exporting 1.1.0")?;
    teller.say("1.0.0 and 1.1.0 are built and signed, 1.2.0 is not signed");

    let machine = Machine {
        disk: disk.clone(),
        folder: place.work.clone(),
        memory: 1024,
        secure_boot: true,
        accelerator: Accelerator::detect(),
        recording: None,
        warm_resets: false,
        medium: Some(medium),
        hardware: Hardware::default(),
    };
    let about = || format!("the serial line's log is {}", machine.serial_log().display());
    let mut guest = Guest { vm: machine.start()?, teller };
    signed_update(&mut guest).with_context(about)?;
    flipped_bit(&mut guest, &publisher).with_context(about)?;
    unsigned_update(&mut guest, &publisher).with_context(about)?;
    drop(guest);
    unsigned_entry(&machine, &publisher, teller).with_context(about)
}

fn build(place: &Place, publisher: &Publisher, settings: &Settings, version: &str) -> Result<()> {
    let tar = debian::release(place, settings, version)?;
    publisher.build(&tar, version).with_context(|| format!("building {version}"))?;
    Ok(fs::remove_file(&tar)?)
}

/// Makes a FAT file system, as sticks have it, with what a host of 1.0.0 needs for 1.1.0.
fn put_on_medium(publisher: &Publisher, medium: &Path) -> Result<()> {
    let folder = medium.with_extension("folder");
    fs::create_dir(&folder)?;
    publisher.export("1.1.0", "1.0.0", &folder)?;
    fs::File::create(medium)?.set_len(MEDIUM_BYTES)?;
    succeed(Command::new("mkfs.vfat").arg(medium))?;
    succeed(Command::new("mcopy").args(["-s", "-i"]).args([medium, &folder]).arg(format!("::{EXPORT}")))?;
    Ok(fs::remove_dir_all(&folder)?)
}

/// The firmware starts what is signed, and so it does with what the agent composed, from a medium and without a server.
fn signed_update(guest: &mut Guest) -> Result<()> {
    guest.come_up("1.0.0")?;
    let variable = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let enforced = guest.vm.read(&format!("od -An -t u1 -j 4 {variable}"))?;
    ensure!(enforced.trim() == "1", "the firmware does not enforce Secure Boot: {enforced:?}");
    guest.vm.read(&format!("mount -o ro /dev/vdb {MOUNTED}"))?;
    guest.vm.start(&format!("upright update --from {MOUNTED}/{EXPORT} --reboot"))?;
    guest.come_up("1.1.0")?;
    guest.wait_until_proven("1.1.0")?;
    let way = guest.history()?;
    guest.teller.say(
        "Secure Boot is enforced, and 1.1.0 came up from a medium: the host composed the UKI that was signed",
    );
    ensure!(way.to_string().contains(EXPORT), "the history does not say where 1.1.0 came from: {way}");
    Ok(())
}

/// A bit that flips on the disk is never read as if nothing had happened.
fn flipped_bit(guest: &mut Guest, publisher: &Publisher) -> Result<()> {
    let image = publisher.build_folder("1.1.0").join(upright_image_builder::repo::build::IMAGE);
    let image = fs::read(&image).with_context(|| format!("reading {}", image.display()))?;
    let content = noise(1, DATA_BYTES);
    let at = image.windows(64).position(|window| window == &content[..64]);
    let at = at.context("the image does not hold the file")? + 5000;
    let path = format!("/{}", debian::data());
    guest.vm.read(&format!("cat {path} > /dev/null"))?;
    let byte = format!("\\{:03o}", image[at] ^ 1);
    let device = "/dev/disk/by-partlabel/root-b";
    guest
        .vm
        .read(&format!("printf '{byte}' | dd of={device} bs=1 seek={at} conv=notrunc,fsync status=none"))?;
    guest.vm.read("echo 3 > /proc/sys/vm/drop_caches")?;
    let read = guest.vm.run(&format!("cat {path} > /dev/null"))?;
    ensure!(read.code != 0 && read.text.contains("Input/output error"), "a damaged block was read: {read:?}");
    let verified = guest.vm.run("upright verify")?;
    let line = verified.text.lines().find(|line| line.contains("* slot b"));
    let named = line.is_some_and(|line| line.contains("DAMAGED: 1 of") && line.contains(&path));
    ensure!(verified.code == 4 && named, "`upright verify` does not name the damage: {verified:?}");
    guest
        .teller
        .say(&format!("a flipped bit: the kernel refuses to read it; {}", line.unwrap_or_default().trim()));
    // Below the kernel's hash tree, while the system runs from it.
    guest.vm.read(&format!("mount -o ro /dev/vdb {MOUNTED}"))?;
    let mended = guest.vm.read(&format!("upright repair --from {MOUNTED}/{EXPORT}"))?;
    guest.vm.read(&format!("umount {MOUNTED}; echo 3 > /proc/sys/vm/drop_caches; cat {path} > /dev/null"))?;
    guest.vm.read("upright verify")?;
    guest.teller.say(&format!("mended while it runs: {}", mended.lines().last().unwrap_or_default()));
    Ok(())
}

/// A release that the firmware would refuse is not switched to.
fn unsigned_update(guest: &mut Guest, publisher: &Publisher) -> Result<()> {
    let boots = guest.vm.boots();
    publisher.publish("1.2.0")?;
    let refused = guest.run_alone("upright update")?;
    ensure!(refused.code != 0 && refused.text.contains("Secure Boot"), "1.2.0 was taken: {refused:?}");
    ensure!(guest.vm.boots() == boots, "the machine restarted");
    let reason = refused.text.lines().last().unwrap_or_default();
    guest.teller.say(&format!("1.2.0 is published without a signature: {reason}"));
    Ok(())
}

/// An unsigned UKI that somebody puts on the ESP is not started.
fn unsigned_entry(machine: &Machine, publisher: &Publisher, teller: Teller) -> Result<()> {
    let uki = publisher.build_folder("1.2.0").join(upright_image_builder::repo::build::UKI);
    put_on_esp(&machine.disk, &uki, "::EFI/Linux/demo_9.9.9.efi")?;
    let mut vm = machine.start()?;
    let refusals = ["Access denied", "Access Denied", "Security violation", "Security Violation", "login"];
    match vm.console().wait_for(&refusals, REFUSAL_TIME)? {
        (4, _) => bail!("the machine came up from a UKI that is not signed"),
        (which, _) => {
            teller.say(&format!("a UKI without a signature on the ESP is not started: {}", refusals[which]))
        }
    }
    Ok(())
}

fn put_on_esp(disk: &Path, file: &Path, name: &str) -> Result<()> {
    let image = format!("{}@@{ESP_AT}", disk.display());
    succeed(Command::new("mcopy").args(["-i", &image]).arg(file).arg(name))
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let done = command.output().with_context(|| format!("cannot run {program}"))?;
    ensure!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
