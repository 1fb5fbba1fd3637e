//! Folders and disks that are read-only: told by name, and nothing else happens.

use std::fs;

use anyhow::{Result, ensure};
use upright_tests::fixture::Fixture;
use upright_tests::namespace::{REFUSED, in_namespace, refused};
use upright_tests::programs::upright;
use upright_tests::refusal::{files, line_of};

#[test]
fn a_host_whose_disks_are_read_only_says_so_and_stays_as_it_is() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let host = &fixture.host("host")?;
    let script = format!(
        "{REFUSED}
        upright --root . status >/dev/null
        sha256sum dev/* esp/EFI/Linux/* >before
        for place in var/lib/upright dev esp; do
            mount --bind $place $place && mount -o remount,bind,ro $place
            refused ${{place##*/}} upright --root . update
            refused ${{place##*/}}-status upright --root . status
            umount $place
        done
        sha256sum dev/root-a* esp/EFI/Linux/* >after"
    );
    in_namespace(host, &script)?;
    for (name, path) in [("upright", "var/lib/upright/"), ("dev", "dev/root-b"), ("esp", "esp/")] {
        let ran = refused(host, name)?;
        let line = line_of("upright", &ran, 6)?;
        ensure!(line.contains(path) && line.contains("Read-only file system"), "{line}");
        let status = refused(host, &format!("{name}-status"))?;
        ensure!(status.status == 0 && status.stdout.contains("1.0.0"), "{name}: {status:?}");
    }
    let (before, after) = (fs::read_to_string(host.join("before"))?, fs::read_to_string(host.join("after"))?);
    ensure!(after.lines().all(|line| before.contains(line)), "{before}\n{after}");
    assert_eq!(upright(host, &["update"])?.status, 0);
    Ok(())
}

#[test]
fn a_publisher_whose_folders_are_read_only_is_told_which() -> Result<()> {
    let fixture = Fixture::new()?;
    let workspace = &fixture.workspace();
    let tree = workspace.with_file_name("1.1.0").display().to_string();
    let served = files(&workspace.join("repository"), &[])?;
    let script = format!(
        "{REFUSED}
        mount --bind repository repository && mount -o remount,bind,ro repository
        refused /run/publish upright-build publish 1.1.0
        umount repository
        mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\"
        refused /run/build upright-build build {tree} --version 2.0.0
        refused /run/check upright-build check
        cd / && umount {folder} && cd {folder}
        # Last, since whatever comes after it ends first what it has begun.
        mount --bind repository repository && mount -o remount,bind,ro repository
        refused /run/refresh upright-build refresh
        umount repository
        cp /run/publish.* /run/refresh.* /run/build.* /run/check.* {folder}",
        folder = workspace.display(),
    );
    in_namespace(workspace, &format!("mount -t tmpfs none /run; {script}"))?;
    for (name, place) in [("publish", "./repository/"), ("refresh", "./repository/"), ("build", "./ostree")] {
        let ran = refused(workspace, name)?;
        let line = line_of("upright-build", &ran, 1)?;
        ensure!(line.contains(place) && line.contains("Read-only file system"), "{line}");
    }
    let check = refused(workspace, "check")?;
    ensure!(check.status == 0, "what only reads needs to write nothing: {check:?}");
    assert_eq!(files(&workspace.join("repository"), &[])?, served);
    fixture.build(&["publish", "1.1.0"])?;
    Ok(())
}
