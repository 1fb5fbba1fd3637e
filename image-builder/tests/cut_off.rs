//! A publish that is cut off after any of its steps leaves what was published as it was, and the next one finishes it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod common;

use common::{Shop, request, small};
use upright_image_builder::repo::files::fake::CutOff;
use upright_image_builder::repo::published::Published;

/// The version that hosts of `stable` see, and whether all they would read is there.
fn seen(shop: &Shop) -> String {
    let published = Published::read(&shop.open()).unwrap();
    let stable = published.channel(&"stable".parse().unwrap()).unwrap();
    let release = &published.release(None, &stable.version).unwrap().release;
    let files = shop.repository();
    let there = |path: &str| files.iter().any(|(file, _)| file.to_str() == Some(path));
    assert!(there(release.root.full.path.as_str()) && there(release.root.chunks.path.as_str()));
    assert!(there(release.uki.compose.path.as_str()));
    assert!(release.deltas.iter().all(|edge| there(edge.delta.path.as_str())));
    stable.version.to_string()
}

#[test]
fn cut_off_at_any_step() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let whole = shop.copy();
    whole.publish("1.1", "stable").unwrap();
    let expected = whole.repository();
    let mut moved = false;
    for steps in 0.. {
        let shop = shop.copy();
        let files = CutOff::after(steps);
        let result = shop.publish_through(&files, &request("1.1", "stable"));
        match seen(&shop).as_str() {
            "1.0" => assert!(!moved, "after {steps} steps"),
            // The timestamp is in its place; what is left to do is housekeeping.
            "1.1" => moved = true,
            other => panic!("{other} after {steps} steps"),
        }
        if result.is_ok() {
            assert!(steps > 30, "a publish has more than {steps} steps");
            break;
        }
        shop.publish("1.1", "stable").unwrap();
        assert!(shop.repository() == expected, "another repository than without a cut after {steps} steps");
        assert_eq!(Published::read(&shop.open()).unwrap().releases.len(), 2);
    }
    assert!(moved);
}

#[test]
fn what_was_encoded_is_not_encoded_again() {
    let shop = Shop::new();
    small(&shop);
    shop.publish("1.0", "stable").unwrap();
    let steps = |shop: &Shop| {
        let files = CutOff::after(u64::MAX);
        shop.publish_through(&files, &request("1.1", "stable")).unwrap();
        files.steps()
    };
    let fresh = steps(&shop.copy());
    // Cut off just before anything is signed: objects are done.
    let interrupted = shop.copy();
    interrupted.publish_through(&CutOff::after(fresh - 25), &request("1.1", "stable")).unwrap_err();
    assert!(steps(&interrupted) < fresh - 10, "{fresh}");
}
