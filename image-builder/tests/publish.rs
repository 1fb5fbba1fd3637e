//! Publishing: what is made, what is refused and with which words.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use common::{NOW, Shop, request, three, version};
use serde_json::Value;
use upright_image_builder::repo::publish::Why;
use upright_image_builder::repo::published::Published;
use upright_manifests::channel::Wave;

#[test]
fn a_second_release_comes_with_a_delta_from_the_first() {
    let shop = Shop::new();
    three(&shop);
    let first = shop.publish("1.0", "stable").unwrap();
    assert!(first.changed && first.edges.is_empty());
    let second = shop.publish("1.1", "stable").unwrap();
    let [edge] = &second.edges[..] else { panic!("{second:?}") };
    assert_eq!(edge.from, version("1.0"));
    assert!(edge.size < 25 * 4096, "only what changed is in the delta: {second:?}");
    let third = shop.publish("1.2", "stable").unwrap();
    assert_eq!(third.edges.iter().map(|edge| edge.from.as_str()).collect::<Vec<_>>(), ["1.1", "1.0"]);
    let published = Published::read(&shop.open()).unwrap();
    let stable = published.channel(&"stable".parse().unwrap()).unwrap();
    assert_eq!(stable.history, [version("1.1"), version("1.0")]);
}

#[test]
fn publishing_again_changes_no_byte() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    let before = shop.repository();
    let again = shop.publish("1.1", "stable").unwrap();
    assert!(!again.changed && again.edges.len() == 1);
    assert!(shop.repository() == before);
}

#[test]
fn two_publishers_of_the_same_builds_make_the_same_objects() {
    let objects = || {
        let shop = Shop::new();
        three(&shop);
        shop.publish("1.0", "stable").unwrap();
        shop.publish("1.1", "stable").unwrap();
        let files = shop.repository().into_iter();
        files.filter(|(path, _)| !path.starts_with("metadata")).collect::<Vec<_>>()
    };
    let made = [objects(), objects()];
    for made in &made {
        let paths = || made.iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert_eq!(made.len(), 3 + 3 + 1 + 2 + 2, "{:?}", paths());
    }
    // What hosts write is the same to the byte. Manifests say how long it took to try, which is another time; channels name them.
    let [first, second] = made.map(|made| {
        let (images, others): (Vec<_>, Vec<_>) = made
            .into_iter()
            .partition(|(path, _)| path.starts_with("payloads") || path.starts_with("deltas"));
        let manifests = others.into_iter().filter(|(path, _)| path.starts_with("releases"));
        let manifests = manifests.map(|(_, bytes)| without_times(serde_json::from_slice(&bytes).unwrap()));
        let mut manifests: Vec<String> = manifests.map(|manifest| manifest.to_string()).collect();
        manifests.sort();
        (images, manifests)
    });
    assert_eq!(first.1, second.1);
    assert!(first.0 == second.0);
}

fn without_times(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.remove("cpu_ms");
            fields.values_mut().for_each(|field| *field = without_times(field.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_times(item.take())),
        _ => {}
    }
    value
}

#[test]
fn promotion_adds_the_deltas_that_the_other_channels_hosts_need() {
    let shop = Shop::new();
    shop.configure("channels = [\"stable\"]", "channels = [\"stable\", \"beta\"]");
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "beta").unwrap();
    let beta = shop.publish("1.2", "beta").unwrap();
    assert_eq!(beta.edges.len(), 1);
    let stable = shop.publish("1.2", "stable").unwrap();
    assert_eq!(stable.edges.iter().map(|edge| edge.from.as_str()).collect::<Vec<_>>(), ["1.1", "1.0"]);
    // The manifest is another one now, and both channels name it.
    let published = Published::read(&shop.open()).unwrap();
    let manifest = published.release(None, &version("1.2")).unwrap().manifest;
    assert!(published.channels.iter().all(|channel| channel.manifest == manifest));
    assert_eq!(published.channels.len(), 2);
}

#[test]
fn a_release_below_the_floor_gets_no_delta() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    let mut third = request("1.2", "stable");
    third.floor = Some(version("1.1"));
    let third = shop.request(&third).unwrap();
    assert_eq!(third.edges.len(), 1);
    assert_eq!(third.dropped[0].from, version("1.0"));
    assert_eq!(third.dropped[0].why, Why::BelowFloor);
}

#[test]
fn a_delta_larger_than_the_full_payload_is_dropped_and_says_so() {
    let shop = Shop::new();
    shop.build("1.0", &[("vmlinuz", 1, 2), ("a", 1, 3)]);
    shop.build("1.1", &[("vmlinuz", 1, 12), ("z", 40, 13)]);
    shop.publish("1.0", "stable").unwrap();
    let second = shop.publish("1.1", "stable").unwrap();
    if second.edges.is_empty() {
        assert!(second.dropped[0].why.to_string().contains("is not smaller than the full"), "{second:?}");
        assert!(shop.repository().iter().all(|(path, _)| !path.starts_with("deltas")));
    } else {
        assert!(second.edges[0].size < second.full, "{second:?}");
    }
}

/// The names of the deltas that lie in the repository.
fn deltas(shop: &Shop) -> Vec<String> {
    let files = shop.repository().into_iter().map(|(path, _)| path.display().to_string());
    files.filter(|path| path.starts_with("deltas")).collect()
}

#[test]
fn a_delta_over_the_budget_is_not_put_into_the_repository() {
    let shop = Shop::new();
    shop.configure("# delta-budget = \"1GiB\"", "delta-budget = 50_000");
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    let second = shop.publish("1.1", "stable").unwrap();
    assert!(second.edges.is_empty());
    assert!(matches!(second.dropped[0].why, Why::OverBudget { left: 50_000, .. }), "{second:?}");
    assert_eq!(deltas(&shop), [""; 0]);
    let third = shop.publish("1.2", "stable").unwrap();
    assert_eq!((third.edges.len(), third.dropped.len(), deltas(&shop).len()), (1, 1, 1));
    // It is not made a second time to be told, and made when there is room.
    let record = std::fs::read_to_string(shop.root().join("builds/1.2/encoded.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["dropped"].as_object().unwrap().len(), 1);
    let again = shop.publish("1.2", "stable").unwrap();
    assert!(!again.changed && again.dropped == third.dropped);
    shop.configure("delta-budget = 50_000", "delta-budget = 500_000");
    let more = shop.publish("1.2", "stable").unwrap();
    assert_eq!((more.edges.len(), more.dropped.len(), deltas(&shop).len()), (2, 0, 2));
}

#[test]
fn a_release_beyond_the_edges_is_told() {
    let shop = Shop::new();
    shop.configure("edges = 3", "edges = 1");
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    let third = shop.publish("1.2", "stable").unwrap();
    assert_eq!(third.dropped.len(), 1);
    assert_eq!(
        (&third.dropped[0].from, third.dropped[0].why),
        (&version("1.0"), Why::BeyondEdges { edges: 1 })
    );
    // One that has a delta keeps it.
    let mut more = request("1.2", "stable");
    more.edges = Some(2);
    assert_eq!(shop.request(&more).unwrap().edges.len(), 2);
    let fewer = shop.publish("1.2", "stable").unwrap();
    assert_eq!((fewer.edges.len(), fewer.dropped.len()), (2, 0));
}

#[test]
fn what_the_way_by_chunks_fetches_is_signed_for_each_edge() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    shop.publish("1.2", "stable").unwrap();
    let published = Published::read(&shop.open()).unwrap();
    let release = |name: &str| &published.release(None, &version(name)).unwrap().release;
    // What 1.0 lacks of 1.2, 1.1 has: it is in one frame with what both have.
    for (name, fetched) in [("1.1", [22].as_slice()), ("1.2", &[1, 61])] {
        let release = release(name);
        assert_eq!(release.deltas.len(), fetched.len());
        for (edge, blocks) in release.deltas.iter().zip(fetched) {
            let measured = edge.chunks.unwrap();
            let fixed = release.root.chunks.size + release.root.full.head_size;
            // Blocks of noise do not compress.
            let frames = measured.size - fixed;
            assert!((blocks * 4096..(blocks + 2) * 4096).contains(&frames), "{name}: {blocks} and {frames}");
            assert!(measured.cost.memory > 0);
        }
    }
}

#[test]
fn a_damaged_image_that_a_delta_would_start_from_is_named() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    let image = shop.root().join("builds/1.0/root.erofs");
    let whole = std::fs::read(&image).unwrap();
    let mut bytes = whole.clone();
    bytes[5000] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let told = format!(
        "{} is not what the build made; remove the build's folder and build it again",
        image.display()
    );
    assert_eq!(shop.publish("1.2", "stable").unwrap_err(), told);
    // Where only a delta is missing, too.
    std::fs::write(&image, &whole).unwrap();
    let mut few = request("1.2", "stable");
    few.edges = Some(1);
    shop.request(&few).unwrap();
    std::fs::write(&image, vec![0; whole.len()]).unwrap();
    assert_eq!(shop.publish("1.2", "stable").unwrap_err(), told);
}

#[test]
fn releases_beyond_those_kept_are_no_longer_offered() {
    let shop = Shop::new();
    shop.configure("edges = 3", "edges = 1");
    shop.configure("keep = 10", "keep = 0");
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.publish("1.1", "stable").unwrap();
    let third = shop.publish("1.2", "stable").unwrap();
    assert_eq!(third.retired, [version("1.0")]);
    let published = Published::read(&shop.open()).unwrap();
    assert!(published.release(None, &version("1.0")).is_none());
    // Nothing that only 1.0 needed lies around, and the channel's hosts find all that is offered.
    let count = |ending: &str| {
        let files = shop.repository().into_iter();
        files.filter(|(path, _)| path.to_str().unwrap().ends_with(ending)).count()
    };
    assert_eq!((count(".zst"), count(".chunks"), count(".uki")), (2, 2, 2));
    assert_eq!((count(".delta"), count(".targets.json"), count(".snapshot.json")), (2, 1, 1));
    assert!(!shop.publish("1.2", "stable").unwrap().changed);
}

#[test]
fn a_downgrade_needs_a_word() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.1", "stable").unwrap();
    assert_eq!(
        shop.publish("1.0", "stable").unwrap_err(),
        "1.0 is not newer than 1.1, which stable points at; publish a newer version, or say --allow-downgrade to send \
         its hosts back"
    );
    let mut back = request("1.0", "stable");
    back.allow_downgrade = true;
    assert!(shop.request(&back).unwrap().changed);
}

#[test]
fn a_release_that_does_not_fit_is_refused_with_the_figures() {
    let shop = Shop::new();
    shop.configure("slot = \"4GiB\"", "slot = \"1MiB\"");
    shop.build("1.0", &[("vmlinuz", 1, 2), ("big", 300, 3)]);
    assert_eq!(
        shop.publish("1.0", "stable").unwrap_err(),
        "1.0 does not fit the smallest hosts of acme: the root image has 1236992 bytes, 188416 more than the 1048576 of a \
         slot's partition; set `disk.slot` to 2MiB or more, or make the tree smaller; but set no more than every host has"
    );
    shop.configure("slot = \"1MiB\"", "slot = \"4GiB\"");
    shop.configure("esp = \"512MiB\"", "esp = \"40MiB\"");
    shop.build_padded("1.0", &[("vmlinuz", 1, 2)], 20 << 20);
    let error = shop.publish("1.0", "stable").unwrap_err();
    assert!(error.starts_with("1.0 does not fit the smallest hosts of acme: the ESP has "), "{error}");
    assert!(error.contains("that two of 20975627 bytes and an eighth to grow need"), "{error}");
    assert!(shop.repository().iter().all(|(path, _)| path.starts_with("metadata")));
}

#[test]
fn waves_that_make_no_sense_are_refused_before_anything_is_encoded() {
    let shop = Shop::new();
    three(&shop);
    let mut first = request("1.0", "stable");
    first.waves = Some([10_000, 500].map(|share| Wave { share, from: NOW }).to_vec());
    assert_eq!(
        shop.request(&first).unwrap_err(),
        "channel file has impossible waves: shares and times must grow"
    );
    assert!(!shop.root().join("builds/1.0/encoded.json").exists());
}

#[test]
fn a_new_release_starts_without_the_last_ones_hold_and_waves() {
    let shop = Shop::new();
    three(&shop);
    let mut first = request("1.0", "stable");
    first.waves = Some(vec![Wave { share: 500, from: NOW }]);
    first.hold = Some("wait".into());
    shop.request(&first).unwrap();
    let stable = || Published::read(&shop.open()).unwrap().channels.remove(0);
    assert!(!shop.publish("1.0", "stable").unwrap().changed, "what was set stays");
    assert_eq!((stable().waves.len(), stable().hold), (1, Some("wait".into())));
    shop.publish("1.1", "stable").unwrap();
    assert_eq!((stable().waves.len(), stable().hold), (0, None));
}

#[test]
fn another_os_or_architecture_is_refused() {
    let shop = Shop::new();
    shop.build("1.0", &[("vmlinuz", 1, 2)]);
    shop.configure("arch = \"x86-64\"", "arch = \"arm64\"");
    assert_eq!(
        shop.publish("1.0", "stable").unwrap_err(),
        "the build of 1.0 is of acme for x86-64, this workspace is of acme for arm64; build it here"
    );
}

#[test]
fn the_same_version_with_other_content_is_refused() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    shop.build("1.0", &[("vmlinuz", 1, 99)]);
    let error = shop.publish("1.0", "stable").unwrap_err();
    assert!(error.starts_with("1.0 is published with root hash "), "{error}");
    assert!(error.ends_with("build it again under a new version"), "{error}");
}

#[test]
fn a_missing_key_is_told_before_anything_is_encoded() {
    let shop = Shop::new();
    three(&shop);
    let key = shop.root().join("keys/targets.pem");
    std::fs::rename(&key, shop.root().join("away")).unwrap();
    assert_eq!(
        shop.publish("1.0", "stable").unwrap_err(),
        format!(
            "targets metadata cannot be signed: 0 of the 1 keys it needs are here: the key file {} is not there; bring \
             the keys back, or name their signer in upright.toml",
            key.display()
        )
    );
    assert!(!shop.root().join("builds/1.0/encoded.json").exists());
}

#[test]
fn an_expired_root_is_refused_and_says_how_to_go_on() {
    let shop = Shop::new();
    three(&shop);
    let shop = shop.later(366);
    let error = shop.publish("1.0", "stable").unwrap_err();
    assert!(
        error.starts_with("hosts would refuse all that is published: root expired on 2031-03-"),
        "{error}"
    );
    assert!(error.ends_with("; run `upright-build refresh --role root`"), "{error}");
}

#[test]
fn an_image_that_is_not_what_was_built_is_not_published() {
    let shop = Shop::new();
    three(&shop);
    let image = shop.root().join("builds/1.0/root.erofs");
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let error = shop.publish("1.0", "stable").unwrap_err();
    assert!(
        error
            .ends_with("root.erofs is not what the build made; remove the build's folder and build it again"),
        "{error}"
    );
}

#[test]
fn a_damaged_repository_is_not_built_upon() {
    let shop = Shop::new();
    three(&shop);
    shop.publish("1.0", "stable").unwrap();
    let (path, mut bytes) =
        shop.repository().into_iter().find(|(path, _)| path.starts_with("releases")).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    std::fs::write(shop.root().join("repository").join(path), bytes).unwrap();
    assert_eq!(
        shop.publish("1.1", "stable").unwrap_err(),
        "the repository's releases/acme/x86-64/1.0.json is damaged: it is not what was signed; bring the file back from \
         a mirror or a backup"
    );
}
