//! A host's configuration that cannot be used: the file, the line, what was expected; in words or in JSON.

use std::fs;

use anyhow::{Context, Result, ensure};
use upright_tests::fixture::Fixture;
use upright_tests::programs::upright;
use upright_tests::refusal::{Until, contains, host_refuses};

/// What a configuration may be, and what is said of it.
fn cases(good: &str) -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let with = |more: &str| format!("{good}{more}").into_bytes();
    let check = "[[health.check]]\nname = \"x\"\n";
    vec![
        ("empty", Vec::new(), vec![":1: missing field `repository`"]),
        ("no url", b"[repository]\n".to_vec(), vec![":1: missing field `url`"]),
        (
            "scheme",
            b"[repository]\nurl = \"ftp://x\"\n".to_vec(),
            vec![":2: url \"ftp://x\" must start with https://"],
        ),
        (
            "address",
            b"[repository]\nurl = \"http://\"\n".to_vec(),
            vec!["repository address \"http://\" cannot be used"],
        ),
        ("syntax", b"[repository]\nurl = \"http://x\n".to_vec(), vec![":2: "]),
        (
            "section",
            b"[repository]\nurl = \"http://x\"\n[updat]\n".to_vec(),
            vec![":3: unknown field `updat`, expected one of"],
        ),
        (
            "key",
            b"[repository]\nurl = \"http://x\"\n[update]\npol = \"1h\"\n".to_vec(),
            vec![":4: unknown field `pol`, expected"],
        ),
        (
            "value",
            b"[repository]\nurl = \"http://x\"\n[update]\npoll = \"soon\"\n".to_vec(),
            vec![":4: \"soon\" is not a span"],
        ),
        (
            "no probe",
            with(check),
            vec!["check \"x\" needs one of `command`, `unit`, `http`, `update-server`"],
        ),
        (
            "two probes",
            with(&format!("{check}unit = \"a\"\nhttp = \"b\"\n")),
            vec!["has several of `command`", "make a check of each"],
        ),
        (
            "typo in a check",
            with(&format!("{check}units = \"a\"\n")),
            vec!["unknown field `units`, expected one of `name`"],
        ),
        (
            "boot loader",
            with("[boot]\nloader = \"lilo\"\n"),
            vec!["unknown variant `lilo`", "`systemd-boot`"],
        ),
        (
            "boot timeout",
            with("[boot]\ntimeout = \"0s\"\n"),
            vec!["timeout in [boot] must be longer than 0s"],
        ),
        ("slot names", with("[boot]\nslots = [\"A\", \"A\"]\n"), vec!["are not two different names"]),
        ("stall", with("[limits]\nstall = \"0s\"\n"), vec!["stall must be longer than 0s"]),
        (
            "not UTF-8",
            b"[repository]\nurl = \"\xff\xfe\"\n".to_vec(),
            vec![":2: a byte that is not UTF-8; expected TOML"],
        ),
        ("binary", b"\x7fELF\x02\x01\x01\0\0\0".to_vec(), vec![":1: "]),
        ("large", vec![b'#'; 2 << 20], vec!["it has more than 1048576 bytes"]),
    ]
}

#[test]
fn a_configuration_that_cannot_be_read() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    let config = host.join("etc/upright/upright.toml");
    assert_eq!(upright(host, &["status"])?.status, 0);
    let good = fs::read_to_string(&config)?;
    for (name, text, says) in cases(&good) {
        fs::write(&config, text)?;
        let says = [says, vec!["etc/upright/upright.toml"]].concat();
        let says = if name == "address" { &says[..1] } else { &says };
        let line = host_refuses(host, &["update"], 6, says, Until::Decision).with_context(|| name)?;
        // Whoever reads by program is told the same.
        let ran = upright(host, &["update", "--json"])?;
        ensure!(ran.status == 6 && ran.stderr.is_empty(), "{ran:?}");
        assert_eq!(ran.json()?, serde_json::json!({ "error": line, "exit": 6 }), "{name}");
    }
    fs::remove_file(&config)?;
    host_refuses(host, &["status"], 6, &["upright.toml: No such file", "`[repository]`"], Until::Decision)?;
    fs::create_dir(&config)?;
    host_refuses(
        host,
        &["status"],
        6,
        &["upright.toml: Is a directory", "it must be a file"],
        Until::Decision,
    )?;
    fs::remove_dir(&config)?;
    fs::write(&config, good)?;
    host_refuses(
        host,
        &["--config", "/dev/zero", "status"],
        6,
        &["/dev/zero", "more than"],
        Until::Decision,
    )?;
    assert_eq!(upright(host, &["check"])?.status, 0);
    Ok(())
}

#[test]
fn a_folder_that_is_no_host_stays_as_it_is() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = fixture.host("host")?;
    let config = host.join("etc/upright/upright.toml").display().to_string();
    let empty = tempfile::tempdir()?;
    let ran = upright(empty.path(), &["--config", &config, "status"])?;
    let line = upright_tests::refusal::line_of("upright", &ran, 6)?;
    contains(
        line,
        &[
            "is not a simulated host",
            "esp/EFI/Linux is not there",
            "`upright-build disk VERSION --simulated`",
        ],
    )?;
    assert_eq!(fs::read_dir(empty.path())?.count(), 0);
    for (gone, says) in [
        ("run/slot", &["run/slot", "No such file"][..]),
        ("usr/share/upright/root.json", &["there is no root to trust", "put the publisher's root.json"]),
        ("dev/root-b", &["cannot open the partitions of slot b", "dev/root-b"]),
    ] {
        let host = &fixture.host(&gone.replace('/', "-"))?;
        fixture.build(&["publish", "1.1.0"])?;
        assert_eq!(upright(host, &["status"])?.status, 0);
        fs::remove_file(host.join(gone))?;
        host_refuses(host, &["update"], 6, says, Until::Decision).with_context(|| gone)?;
    }
    Ok(())
}

#[test]
fn a_state_that_was_damaged_is_not_taken_for_an_empty_one() -> Result<()> {
    let fixture = Fixture::new()?;
    let host = &fixture.host("host")?;
    fixture.build(&["publish", "1.1.0"])?;
    assert_eq!(upright(host, &["update"])?.status, 0);
    let state = host.join("var/lib/upright/state.json");
    let good = fs::read_to_string(&state)?;
    for (text, says) in [
        (String::new(), "is damaged"),
        (good[..good.len() / 2].to_owned(), "is damaged"),
        (good.replacen("1.1.0", "1.1.1", 1), "its checksum does not match"),
        (good.replacen("\"format\": 1", "\"format\": 2", 1), "has format 2, this agent reads format 1"),
    ] {
        fs::write(&state, text)?;
        for command in ["update", "status", "rollback"] {
            let says = ["state.json", says, "`upright reset-state`"];
            host_refuses(host, &[command], 6, &says, Until::Decision).with_context(|| command)?;
        }
    }
    assert_eq!(upright(host, &["reset-state"])?.status, 0);
    assert_eq!(upright(host, &["status"])?.status, 0);
    assert!(host.join("var/lib/upright/state.json.damaged").exists());
    host_refuses(host, &["reset-state"], 3, &["is whole", "`--force`"], Until::Decision)?;
    Ok(())
}
