//! `upright doctor` on hosts that lack something.

use std::fs;

use anyhow::Result;
use upright_tests::fixture::Fixture;
use upright_tests::programs::upright;

#[test]
fn a_host_that_lacks_nothing_and_one_that_does() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let fresh = upright(host, &["doctor"])?;
    assert_eq!((fresh.status, fresh.stdout.contains("WRONG")), (0, false), "{fresh:?}");
    assert!(fresh.stdout.contains("weak   trust: the server was never reached"), "{fresh:?}");
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    let well = upright(host, &["doctor", "--json"])?;
    assert_eq!((well.status, &well.json()?["healthy"]), (0, &true.into()), "{well:?}");
    assert!(!well.stdout.contains("weak"), "{well:?}");

    fs::rename(host.join("dev/root-b"), host.join("dev/elsewhere"))?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("WRONG  partitions: root-b cannot be used"), "{ill:?}");
    assert!(ill.stdout.contains("mend: give the partition that label"), "{ill:?}");
    assert!(ill.stderr.starts_with("upright: one thing is wrong with this host"), "{ill:?}");
    let json = upright(host, &["doctor", "--json"])?;
    assert_eq!((json.status, &json.json()?["healthy"], json.stderr.as_str()), (6, &false.into(), ""));
    fs::rename(host.join("dev/elsewhere"), host.join("dev/root-b"))?;

    // An entry that somebody renamed is none.
    let entries = host.join("esp/EFI/Linux");
    fs::rename(entries.join("acme_1.0.0.efi"), entries.join("acme_0.1.0.efi"))?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("systemd-boot has no entry for what runs"), "{ill:?}");
    Ok(())
}

#[test]
fn what_keeps_every_other_command_from_working_is_a_finding_here() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let config = host.join("etc/upright/upright.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, "[repository]\n")?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(
        ill.stdout.contains("WRONG  configuration: ") && ill.stdout.contains("missing field `url`"),
        "{ill:?}"
    );
    fs::write(&config, text)?;
    fs::write(host.join("var/lib/upright/state.json"), "{}")?;
    let ill = upright(host, &["doctor"])?;
    assert_eq!(ill.status, 6, "{ill:?}");
    assert!(ill.stdout.contains("`upright reset-state` starts from"), "{ill:?}");
    Ok(())
}
