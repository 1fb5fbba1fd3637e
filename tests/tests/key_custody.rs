//! The procedures of `docs/keys.md`, through the programs: after each, hosts go on updating, and what the old keys sign is
//! refused.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use upright_keys::Signer;
use upright_manifests::name::Arch;
use upright_tests::custody::{Custody, follows, keys, refuses, updates};
use upright_tests::programs::{run, upright};
use upright_tests::refusal::{line_of, publisher_refuses};

/// The name that metadata has for a role of upright.toml.
fn full_name(role: &str) -> String {
    if role == "beta" { format!("acme.{}.beta", Arch::HERE) } else { role.to_owned() }
}

const EXPIRED: &str = "2020-01-01T00:00:00Z";

fn expire(document: &mut Value) {
    document["expires"] = EXPIRED.into();
}

fn unchanged(_: &mut Value) {}

#[test]
fn every_role_is_rotated_and_what_the_old_key_signs_is_refused() -> Result<()> {
    let shop = Custody::with_team()?;
    let (stable, beta) = (shop.host("on-stable", "stable")?, shop.host("on-beta", "beta")?);
    let mut rotated = BTreeSet::new();
    for role in ["root", "targets", "snapshot", "timestamp", "beta"] {
        [&stable, &beta].into_iter().try_for_each(|host| follows(host))?;
        let new = shop.key(&format!("{role}-2"))?;
        shop.edit(&format!("\"keys/{role}.pem\""), &format!("\"keys/{role}-2.pem\""))?;
        let before = shop.metadata()?;
        let planned = shop.build(&["rotate", "--dry-run"])?;
        for said in
            [format!("{}: key {} may sign\n", full_name(role), &new[..8]), "may not sign any more".into()]
        {
            assert!(planned.stdout.contains(&said), "{planned:?}");
        }
        assert_eq!(shop.metadata()?, before, "a dry run changes nothing");
        // Only a new root needs an old key too.
        let old = shop.key_file(role).display().to_string();
        let arguments: &[&str] = if role == "root" { &["rotate", "--key", &old] } else { &["rotate"] };
        shop.fixture.build(arguments)?;
        rotated.insert(role);
        [&stable, &beta].into_iter().try_for_each(|host| follows(host))?;
        assert_eq!(
            shop.build(&["rotate"])?.stdout,
            "what is published is what upright.toml says; nothing to do\n"
        );

        let now = |role: &str| {
            shop.pair(&if rotated.contains(role) { format!("{role}-2") } else { role.to_owned() })
        };
        let (old, snapshot, timestamp) = (shop.pair(role)?, now("snapshot")?, now("timestamp")?);
        let host = if role == "beta" { &beta } else { &stable };
        let by = if role == "beta" { "targets" } else { "root" };
        shop.while_forged(
            host,
            |forger| match role {
                "root" => forger.root(&[&old], unchanged),
                "snapshot" => forger.snapshot([&old, &timestamp], unchanged),
                "timestamp" => forger.timestamp(&[&old], unchanged),
                _ => forger.role(&full_name(role), [&old, &snapshot, &timestamp], unchanged),
            },
            || refuses(host, &[&format!("not signed by those whom {by} appoints")]),
        )?;
    }
    shop.fixture.build(&["publish", "1.1.0", "--channel", "beta"])?;
    shop.fixture.build(&["promote", "1.1.0", "--from", "beta", "--to", "stable"])?;
    [&stable, &beta].into_iter().try_for_each(|host| updates(host))
}

#[test]
fn a_root_key_is_lost_and_replaced_by_those_that_are_left() -> Result<()> {
    let shop = Custody::new()?;
    let host = shop.fixture.host("host")?;
    let table = |keys: [&str; 3], threshold| {
        let files: Vec<String> = keys.iter().map(|key| format!("\"keys/{key}.pem\"")).collect();
        format!("[roles.root]\nkeys = [{}]\nthreshold = {threshold}\n", files.join(", "))
    };
    for key in ["root-2", "root-3", "root-4", "root-5", "root-6"] {
        shop.key(key)?;
    }
    let three = table(["root", "root-2", "root-3"], 2);
    shop.edit("[roles.root]\nkeys = [\"keys/root.pem\"]\nthreshold = 1\n", &three)?;
    shop.fixture.build(&["rotate"])?;
    follows(&host)?;
    // One is lost: the other two are enough.
    shop.lose("root-3")?;
    let replaced = table(["root", "root-2", "root-4"], 2);
    shop.edit(&three, &replaced)?;
    shop.fixture.build(&["rotate"])?;
    follows(&host)?;
    // Two are lost: no new root comes from what is left, and nothing changes.
    shop.lose("root")?;
    shop.lose("root-2")?;
    shop.edit(&replaced, &table(["root-4", "root-5", "root-6"], 2))?;
    let says =
        ["root cannot be signed: it has 1 of the 2 signatures that the published root asks for", "--stage"];
    publisher_refuses(&shop.workspace(), &["rotate"], 3, &says)?;
    follows(&host)?;
    shop.fixture.build(&["publish", "1.1.0"])?;
    updates(&host)
}

#[test]
fn stolen_online_keys_are_revoked_and_hosts_recover_from_a_fast_forward() -> Result<()> {
    let shop = Custody::new()?;
    let host = shop.fixture.host("host")?;
    follows(&host)?;
    let (snapshot, timestamp) = (shop.pair("snapshot")?, shop.pair("timestamp")?);
    let good = tempfile::tempdir()?;
    let served = shop.workspace().join("repository/metadata/timestamp.json");
    fs::copy(&served, good.path().join("timestamp.json"))?;
    let far = |document: &mut Value| document["version"] = json!(1_u64 << 40);
    shop.forger().snapshot([&snapshot, &timestamp], far)?;
    shop.forger().timestamp(&[&timestamp], far)?;
    follows(&host)?;
    // The repository is repaired, but hosts do not go back.
    fs::copy(good.path().join("timestamp.json"), &served)?;
    refuses(&host, &["timestamp.json: rolled back"])?;
    for role in ["snapshot", "timestamp"] {
        shop.key(&format!("{role}-2"))?;
        shop.edit(&format!("\"keys/{role}.pem\""), &format!("\"keys/{role}-2.pem\""))?;
        // Whoever stole them may have removed them too.
        shop.lose(role)?;
    }
    shop.fixture.build(&["rotate"])?;
    follows(&host)?;
    shop.while_forged(
        &host,
        |forger| forger.timestamp(&[&timestamp], far),
        || refuses(&host, &["timestamp.json: not signed by those whom root appoints"]),
    )?;
    shop.fixture.build(&["publish", "1.1.0"])?;
    updates(&host)
}

#[test]
fn what_has_expired_is_signed_again() -> Result<()> {
    let shop = Custody::with_team()?;
    let host = shop.host("host", "beta")?;
    follows(&host)?;
    let [root, targets, beta, snapshot, timestamp] =
        ["root", "targets", "beta", "snapshot", "timestamp"].map(|role| shop.pair(role));
    let (root, targets, beta, snapshot, timestamp) = (root?, targets?, beta?, snapshot?, timestamp?);
    for role in ["timestamp", "snapshot", "targets", "beta", "root"] {
        let forger = shop.forger();
        match role {
            "timestamp" => forger.timestamp(&[&timestamp], expire)?,
            "snapshot" => forger.snapshot([&snapshot, &timestamp], expire)?,
            "targets" => forger.targets([&targets, &snapshot, &timestamp], expire)?,
            "beta" => forger.role(&full_name("beta"), [&beta, &snapshot, &timestamp], expire)?,
            _ => forger.root(&[&root], expire)?,
        }
        refuses(&host, &[role, "expired"])?;
        let audit = shop.build(&["check"])?;
        assert_eq!(audit.status, 4, "{audit:?}");
        assert!(audit.stdout.contains("upright-build refresh"), "{audit:?}");
        match role {
            "timestamp" | "snapshot" => shop.fixture.build(&["refresh"])?,
            _ => shop.fixture.build(&["refresh", "--role", role])?,
        }
        follows(&host)?;
        assert_eq!(shop.build(&["check"])?.status, 0);
    }
    shop.fixture.build(&["publish", "1.1.0", "--channel", "beta"])?;
    updates(&host)
}

#[test]
fn a_host_that_was_off_for_years_walks_the_chain_of_roots() -> Result<()> {
    let shop = Custody::new()?;
    let host = shop.fixture.host("host")?;
    let mut last = "root".to_owned();
    for year in 2..=5 {
        let next = format!("root-{year}");
        shop.key(&next)?;
        shop.edit(&format!("\"keys/{last}.pem\""), &format!("\"keys/{next}.pem\""))?;
        let old = shop.key_file(&last).display().to_string();
        shop.fixture.build(&["rotate", "--key", &old])?;
        // Nobody signed in time: each root in between has expired.
        shop.forger().root(&[&shop.pair(&next)?], expire)?;
        shop.lose(&last)?;
        last = next;
    }
    refuses(&host, &["root.json: expired"])?;
    shop.fixture.build(&["refresh", "--role", "root"])?;
    shop.fixture.build(&["publish", "1.1.0"])?;
    updates(&host)
}

#[test]
fn an_offline_root_is_signed_on_machines_of_its_keepers() -> Result<()> {
    let shop = Custody::new()?;
    let host = shop.fixture.host("host")?;
    let vaults = tempfile::tempdir()?;
    let pass = vaults.path().join("pass");
    fs::write(&pass, "correct horse\n")?;
    let source = format!("file:{}", pass.display());
    // The key that signs so far goes to a vault too; its public half stays.
    let old = vaults.path().join("old.pem");
    fs::rename(shop.key_file("root"), &old)?;
    let mut public = Vec::new();
    for name in ["anna", "ben"] {
        keys(&[&"new", &vaults.path().join(name), &"--passphrase", &source])?;
        let file = format!("keys/root-{name}.pub");
        fs::copy(vaults.path().join(format!("{name}.pub")), shop.workspace().join(&file))?;
        public.push(format!("\"{file}\""));
    }
    let wanted = format!("keys = [{}]\nthreshold = 2", public.join(", "));
    shop.edit("keys = [\"keys/root.pem\"]\nthreshold = 1", &wanted)?;
    let (before, stage) = (shop.metadata()?, vaults.path().join("staged").display().to_string());
    publisher_refuses(&shop.workspace(), &["rotate"], 3, &["--stage"])?;
    let staged = shop.build(&["rotate", "--stage", &stage])?;
    assert_eq!(staged.status, 0, "{staged:?}");
    let once = fs::read(vaults.path().join("staged/2.root.json"))?;
    assert_eq!(shop.build(&["rotate", "--stage", &stage])?.stdout, staged.stdout);
    assert_eq!(fs::read(vaults.path().join("staged/2.root.json"))?, once, "staging twice changes nothing");
    assert!(
        staged.stdout.contains("2.root.json: it has 0 of the 1 signatures that the published root asks for"),
        "{staged:?}"
    );
    let document = vaults.path().join("staged/2.root.json");
    let request = vaults.path().join("request.json");
    keys(&[&"sign-request", &document, &"--output", &request])?;

    let signed = |name: &str| vaults.path().join(format!("{name}.json"));
    let bytes = fs::read(&request)?;
    for name in ["anna", "ben"] {
        let key = vaults.path().join(name);
        let seen = keys(&[&"sign", &request, &"--key", &key, &"--passphrase", &source, &"--dry-run"])?;
        assert!(
            seen.stderr.contains("root version 2") && seen.stderr.contains("role root: 2 of "),
            "{seen:?}"
        );
        assert_eq!(fs::read(&request)?, bytes, "a dry run signs nothing");
        keys(&[&"sign", &request, &"--key", &key, &"--passphrase", &source, &"--output", &signed(name)])?;
    }
    let root = shop.workspace().join("root.json");
    let both = [signed("anna"), signed("ben")].map(|path| path.display().to_string());
    let (root_file, out) = (root.display().to_string(), signed("both").display().to_string());
    let combine = ["combine", &both[0], &both[1], "--root", &root_file, "--output", &out];
    let short = run("upright-keys", combine)?;
    assert!(short.stderr.contains("root.json: 0 of the 1 signatures needed are valid"), "{short:?}");
    assert!(short.status == 1 && !signed("both").exists());
    keys(&[&"combine", &both[0], &both[1], &"--output", &document])?;
    // Without the old key it is no root that hosts would take, and nothing changes.
    let lacking = shop.build(&["rotate", "--stage", &stage])?;
    assert!(lacking.stdout.contains("nothing is published yet"), "{lacking:?}");
    assert_eq!(shop.metadata()?, before);
    keys(&[&"sign", &document, &"--key", &old])?;
    let text = fs::read_to_string(&document)?;
    fs::write(&document, text.replace("\"threshold\": 2", "\"threshold\": 1"))?;
    let ran = shop.build(&["rotate", "--stage", &stage])?;
    assert!(
        line_of("upright-build", &ran, 3)?.contains("2.root.json was staged for something else"),
        "{ran:?}"
    );
    fs::write(&document, text)?;
    keys(&[&"combine", &document, &"--root", &root, &"--output", &document])?;
    let done = shop.build(&["rotate", "--stage", &stage])?;
    assert!(done.stdout.ends_with("done: signed and published\n"), "{done:?}");
    assert!(!document.exists() && shop.workspace().join("repository/metadata/2.root.json").exists());
    follows(&host)?;

    // Targets whose key is elsewhere are renewed in the same way.
    let targets = vaults.path().join("targets.pem");
    fs::rename(shop.key_file("targets"), &targets)?;
    let arguments = ["refresh", "--role", "targets", "--stage", &stage];
    assert_eq!(shop.build(&arguments)?.status, 0);
    let document = fs::read_dir(&stage)?.next().transpose()?.map(|entry| entry.path());
    keys(&[&"sign", &document.unwrap_or_default(), &"--key", &targets])?;
    let done = shop.build(&arguments)?;
    assert!(done.stdout.contains("targets version 3: until "), "{done:?}");
    follows(&host)?;
    fs::rename(&targets, shop.key_file("targets"))?;
    shop.fixture.build(&["publish", "1.1.0"])?;
    updates(&host)
}

#[test]
fn a_team_signs_its_channel_and_nothing_else() -> Result<()> {
    let shop = Custody::with_team()?;
    let (stable, beta) = (shop.host("on-stable", "stable")?, shop.host("on-beta", "beta")?);
    // What the team's machine has: its own key, and the online ones.
    let targets = shop.workspace().join("targets-is-elsewhere");
    fs::rename(shop.key_file("targets"), &targets)?;
    shop.lose("root")?;
    shop.fixture.build(&["publish", "1.1.0", "--channel", "beta"])?;
    publisher_refuses(
        &shop.workspace(),
        &["promote", "1.1.0", "--from", "beta", "--to", "stable"],
        3,
        &["targets metadata cannot be signed: 0 of the 1 keys it needs are here"],
    )?;
    // It writes the channel file of stable all the same, and lists it under its own name.
    let arch = Arch::HERE;
    let folder = shop.workspace().join(format!("repository/channels/acme/{arch}"));
    let find = |ending: &str| -> Result<_> {
        let mut newest = None;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            if path.to_string_lossy().ends_with(ending) && text.contains("\"version\": \"1.1.0\"") {
                newest = Some(text);
            }
        }
        Ok(newest.unwrap_or_default())
    };
    let evil = find(".beta.json")?.replace("\"channel\": \"beta\"", "\"channel\": \"stable\"");
    let digest = upright_manifests::digest::Digest::of(evil.as_bytes());
    fs::write(folder.join(format!("{digest}.stable.json")), &evil)?;
    let keys = ["beta", "snapshot", "timestamp"].map(|role| shop.pair(role));
    let [of_beta, of_snapshot, of_timestamp] = keys;
    shop.forger().role(&full_name("beta"), [&of_beta?, &of_snapshot?, &of_timestamp?], |document| {
        document["targets"][format!("channels/acme/{arch}/stable.json")] =
            json!({ "length": evil.len(), "hashes": { "sha256": digest } });
    })?;
    let audit = shop.build(&["check"])?;
    assert!(audit.stdout.contains("/stable.json, for which hosts ask others"), "{audit:?}");
    let told = upright(&stable, &["update"])?;
    assert_eq!(told.status, 0, "{told:?}");
    assert_eq!(upright(&stable, &["status", "--json"])?.json()?["booted"], "a");
    updates(&beta)?;
    let status = upright(&beta, &["status", "--json"])?.json()?;
    assert!(status["metadata_good_until"][full_name("beta")].is_string(), "{status}");
    fs::rename(&targets, shop.key_file("targets"))?;
    shop.fixture.build(&["promote", "1.1.0", "--from", "beta", "--to", "stable"])?;
    updates(&stable)
}

#[test]
fn a_delegation_as_wide_as_everything_has_no_say_in_stable() -> Result<()> {
    let shop = Custody::new()?;
    let host = shop.fixture.host("host")?;
    let key = shop.key("theirs")?;
    let theirs = shop.pair("theirs")?.public().to_string();
    let public = json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": theirs } });
    let [targets, snapshot, timestamp] = ["targets", "snapshot", "timestamp"].map(|role| shop.pair(role));
    // It has never published, and what hosts cannot have they refuse rather than pass over.
    shop.forger().targets([&targets?, &snapshot?, &timestamp?], |document| {
        let role = json!({ "name": "theirs", "keyids": [key], "threshold": 1, "terminating": true,
                           "path_hash_prefixes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"] });
        document["delegations"] = json!({ "keys": { (key.as_str()): public }, "roles": [role] });
    })?;
    shop.fixture.build(&["publish", "1.1.0"])?;
    updates(&host)
}

#[test]
fn what_a_team_hands_on_is_looked_for_nowhere_else() -> Result<()> {
    let shop = Custody::with_team()?;
    let host = shop.host("on-beta", "beta")?;
    follows(&host)?;
    // Its releases are those of a role that hosts cannot have, while stable lists the same.
    let keys = ["beta", "snapshot", "timestamp"].map(|role| shop.pair(role));
    let [of_beta, of_snapshot, of_timestamp] = keys;
    let of_beta = of_beta?;
    let key = of_beta.public().tuf_id();
    shop.forger().role(&full_name("beta"), [&of_beta, &of_snapshot?, &of_timestamp?], |document| {
        if let Some(targets) = document["targets"].as_object_mut() {
            targets.retain(|path, _| !path.starts_with("releases/"));
        }
        let role = json!({ "name": "gone", "keyids": [key], "threshold": 1, "terminating": false,
                           "paths": ["releases/*/*/*/*"] });
        document["delegations"] =
            json!({ "keys": { (key.as_str()): of_beta.public().to_tuf() }, "roles": [role] });
    })?;
    let ran = upright(&host, &["check"])?;
    assert!(ran.status == 5 && ran.stderr.contains("gone.json: not listed in the snapshot"), "{ran:?}");
    Ok(())
}
