//! The check of the state's file system at a boot, with the functions of `mount-state` themselves and the real e2fsck.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use upright_tests::namespace::in_namespace;

/// Ways of a check: what is in the superblock's state (2: errors were found), and whether systemd is asked for more time.
const CASES: [(&str, bool); 2] = [("1", false), ("2", true)];

/// What comes before anything is done, from the script as it is delivered.
fn functions() -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/dracut/90upright/mount-state.sh");
    let text = fs::read_to_string(script)?;
    let (functions, _) = text.split_once("\nmkdir -p \"$kept\"\n").context("mount-state has another form")?;
    Ok(functions.to_owned())
}

#[test]
fn a_check_that_makes_progress_asks_for_more_time() -> Result<()> {
    for (state, asks) in CASES {
        let folder = TempDir::new()?;
        let at = folder.path();
        fs::create_dir(at.join("bin"))?;
        fs::write(at.join("functions"), functions()?)?;
        fs::write(at.join("bin/systemd-notify"), "#!/bin/sh\necho \"$@\" >> \"$ASKED\"\n")?;
        in_namespace(
            at,
            &format!(
                "export PATH=$PWD/bin:$PATH:/usr/sbin:/sbin ASKED=$PWD/asked; chmod +x bin/systemd-notify\n\
                 mount -t tmpfs none /run; mkdir /run/upright\n\
                 truncate -s 64M disk; mkfs.ext4 -q -F disk; debugfs -w -R 'set_super_value state {state}' disk\n\
                 set +eu; . ./functions; mend disk; echo $? > mended; wait\n"
            ),
        )?;
        ensure!(fs::read_to_string(at.join("mended"))? == "0\n", "state {state}: it is not mended");
        let asked = fs::read_to_string(at.join("asked")).unwrap_or_default();
        let expected = if asks { "EXTEND_TIMEOUT_USEC=300000000\n" } else { "" };
        ensure!(asked == expected, "state {state}: {asked:?}");
    }
    Ok(())
}

/// As one that is killed, or a disk that cannot be mended.
#[test]
fn a_check_that_fails_is_told_as_it_was() -> Result<()> {
    let folder = TempDir::new()?;
    let at = folder.path();
    fs::create_dir(at.join("bin"))?;
    fs::write(at.join("functions"), functions()?)?;
    fs::write(at.join("bin/e2fsck"), "#!/bin/sh\necho 1 1 9 disk >&9; exit 12\n")?;
    fs::write(at.join("bin/systemd-notify"), "#!/bin/sh\nexit 1\n")?;
    in_namespace(
        at,
        "export PATH=$PWD/bin:$PATH; chmod +x bin/*; mount -t tmpfs none /run; mkdir /run/upright; : > disk\n\
         set +eu; . ./functions; check -p disk; echo $? > code; mend disk; echo $? > mended\n",
    )?;
    assert_eq!(fs::read_to_string(at.join("code"))?, "12\n");
    assert_eq!(fs::read_to_string(at.join("mended"))?, "1\n");
    Ok(())
}

/// A disk that cannot be read, or not all of its beginning, is not taken for one that never held anything.
#[test]
fn only_a_disk_that_was_read_and_holds_nothing_is_formatted() -> Result<()> {
    const READ: &str = "#!/bin/sh\nexec /usr/bin/head \"$@\"\n";
    let cases = [
        ("truncate -s 64M disk", READ, true),
        ("truncate -s 64M disk; mkfs.ext4 -q -F disk", READ, false),
        ("truncate -s 64M disk; echo x | dd of=disk bs=1 seek=1000000 conv=notrunc status=none", READ, false),
        ("truncate -s 64M disk", "#!/bin/sh\nexit 1\n", false),
        ("truncate -s 64M disk", "#!/bin/sh\n/usr/bin/head -c 4096 /dev/zero; exit 1\n", false),
        ("truncate -s 64M disk", "#!/bin/sh\n/usr/bin/head -c 4096 /dev/zero\n", false),
    ];
    for (make, head, formats) in cases {
        let folder = TempDir::new()?;
        let at = folder.path();
        fs::create_dir(at.join("bin"))?;
        fs::write(at.join("functions"), functions()?)?;
        fs::write(at.join("bin/head"), head)?;
        fs::write(at.join("bin/mkfs.ext4"), "#!/bin/sh\necho \"$@\" >> \"$FORMATTED\"\n")?;
        in_namespace(
            at,
            &format!(
                "export PATH=$PATH:/usr/sbin:/sbin FORMATTED=$PWD/formatted; chmod +x bin/*; {make}\n\
                 export PATH=$PWD/bin:$PATH; mount -t tmpfs none /run; mkdir /run/upright\n\
                 set +eu; . ./functions; format_if_blank disk\n"
            ),
        )?;
        ensure!(at.join("formatted").exists() == formats, "{make}, {head:?}");
    }
    Ok(())
}

/// Power goes while the first boot gives an empty `/var` what the image has.
#[test]
fn a_var_that_was_half_filled_is_filled_by_the_next_boot_and_keeps_what_was_in_it() -> Result<()> {
    for cut in ["aside", "link", "nowhere"] {
        let folder = TempDir::new()?;
        let at = folder.path();
        fs::create_dir(at.join("bin"))?;
        fs::write(at.join("functions"), functions()?)?;
        // The copy is cut off in the middle of a file, the links between two.
        fs::write(
            at.join("bin/cp"),
            "#!/bin/sh\n\
             case $CUT$* in\n\
             aside*filling) /bin/cp \"$@\"; : > root/var/lib/upright/filling/lib/db; exit 1;;\n\
             link*--link*) mkdir -p root/var/lib; /bin/ln root/var/lib/upright/filling/lib/db root/var/lib/db; exit 1;;\n\
             *) exec /bin/cp \"$@\";;\n\
             esac\n",
        )?;
        in_namespace(
            at,
            &format!(
                "export PATH=$PWD/bin:$PATH; chmod +x bin/cp\n\
                 mkdir -p image/lib image/empty root/var; chmod 711 image/empty; echo whole > image/lib/db; ln -s db image/lib/link\n\
                 echo image > image/id; echo own > root/var/id\n\
                 . ./functions; root=root kept=image; sync() {{ :; }}\n\
                 set +eu; CUT={cut} fill; fill; echo $? > done; fill; echo $? >> done\n"
            ),
        )?;
        ensure!(fs::read_to_string(at.join("done"))? == "0\n0\n", "{cut}: it is not filled");
        let var = at.join("root/var");
        let read = |name: &str| fs::read_to_string(var.join(name));
        ensure!(
            (read("lib/db")?, read("lib/link")?, read("id")?)
                == ("whole\n".into(), "whole\n".into(), "own\n".into()),
            "{cut}"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(var.join("empty"))?.permissions());
        ensure!(mode & 0o777 == 0o711, "{cut}: {mode:o}");
        ensure!(!var.join("lib/upright/filling").exists(), "{cut}: what was made aside is still there");
    }
    Ok(())
}
