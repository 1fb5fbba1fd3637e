//! Delegated roles: who may speak for which target, and who is asked first.

use super::repository::*;
use crate::tuf::{Kind, Problem, limits};

fn asked(host: &Host) -> Vec<&str> {
    host.requests.iter().map(String::as_str).skip(2).collect()
}

#[test]
fn a_role_speaks_for_the_paths_delegated_to_it_and_no_others() {
    let mut repository = Repository::new();
    repository.delegate("targets", "beta", &["channels/*/beta.json"], false, 9);
    repository.add_target("beta", "channels/x/beta.json", b"b");
    repository.add_target("beta", "channels/x/stable.json", b"s");
    repository.publish();
    let mut host = Host::following(&repository);
    assert_eq!(host.target(&repository, "channels/x/beta.json").unwrap().length, 1);
    assert_eq!(asked(&host), ["1.beta.json"]);
    host.requests.clear();
    let error = host.target(&repository, "channels/x/stable.json").unwrap_err();
    assert_eq!(error.problem, Problem::UnknownTarget);
    assert!(asked(&host).is_empty(), "a role that does not speak for the path is not even fetched");
}

#[test]
fn the_first_role_wins_and_a_terminating_one_ends_the_search() {
    for (terminating, found) in [(false, true), (true, false)] {
        let mut repository = Repository::new();
        repository.delegate("targets", "first", &["a"], terminating, 9);
        repository.delegate("targets", "second", &["a"], false, 10);
        repository.add_target("second", "a", b"second");
        repository.publish();
        let mut host = Host::following(&repository);
        assert_eq!(host.target(&repository, "a").is_ok(), found, "terminating: {terminating}");
        repository.add_target("first", "a", b"1");
        repository.publish();
        assert_eq!(host.target(&repository, "a").unwrap().length, 1);
    }
}

#[test]
fn a_terminating_role_deep_in_the_tree_ends_the_search_in_all_of_it() {
    let mut repository = Repository::new();
    repository.delegate("targets", "first", &["*"], false, 9);
    repository.delegate("targets", "second", &["*"], false, 10);
    repository.delegate("first", "last-word", &["*"], true, 11);
    repository.add_target("second", "a", b"second");
    repository.publish();
    let mut host = Host::following(&repository);
    assert_eq!(host.target(&repository, "a").unwrap_err().problem, Problem::UnknownTarget);
    assert_eq!(asked(&host), ["1.first.json", "1.last-word.json"]);
}

#[test]
fn roles_are_visited_in_pre_order_once_each() {
    let mut repository = Repository::new();
    for (delegator, role) in [("targets", "a"), ("targets", "b"), ("a", "c"), ("c", "a"), ("b", "c")] {
        repository.delegate(delegator, role, &["*"], false, 9);
    }
    repository.publish();
    let mut host = Host::following(&repository);
    assert_eq!(host.target(&repository, "x").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(asked(&host), ["1.a.json", "1.c.json", "1.b.json"]);
}

#[test]
fn a_kept_role_is_checked_against_whoever_delegates_to_it_now() {
    let mut repository = Repository::new();
    repository.delegate("targets", "left", &["left/*"], false, 9);
    repository.delegate("targets", "right", &["right/*"], false, 9);
    repository.delegate("left", "release", &["left/*"], false, 10);
    repository.delegate("right", "release", &["right/*"], false, 11);
    repository.signers.insert("release".into(), vec![10]);
    repository.add_target("release", "left/x", b"l");
    repository.add_target("release", "right/x", b"r");
    repository.publish();
    let mut host = Host::following(&repository);
    host.target(&repository, "left/x").unwrap();
    let error = host.target(&repository, "right/x").unwrap_err();
    assert_eq!(error.kind(), Kind::Signature, "{error}");
    assert!(error.to_string().contains("not signed by those whom right appoints"), "{error}");
}

#[test]
fn a_role_left_out_of_the_snapshot_does_not_hand_its_place_to_the_next() {
    let mut repository = Repository::new();
    repository.delegate("targets", "first", &["a"], false, 9);
    repository.delegate("targets", "second", &["a"], false, 10);
    repository.add_target("second", "a", b"second");
    repository.publish();
    repository.snapshot.meta.remove("first.json");
    repository.publish_snapshot();
    let error = Host::default().target(&repository, "a").unwrap_err();
    assert_eq!((error.document.as_str(), error.problem), ("first.json", Problem::NotListed));
}

#[test]
fn a_search_visits_a_bounded_number_of_roles() {
    let mut repository = Repository::new();
    let mut delegator = "targets".to_owned();
    for i in 0..=limits::DELEGATIONS {
        let role = format!("role{i}");
        repository.delegate(&delegator, &role, &["*"], false, 9);
        delegator = role;
    }
    repository.add_target(&delegator, "deep", b"x");
    repository.publish();
    let mut host = Host::following(&repository);
    let error = host.target(&repository, "deep").unwrap_err();
    assert_eq!(error.problem, Problem::TooManyDelegations(limits::DELEGATIONS));
    assert_eq!(asked(&host).len(), limits::DELEGATIONS);
}

#[test]
fn a_delegated_role_cannot_take_a_top_level_roles_name_or_leave_its_folder() {
    for (role, accepted) in [("timestamp", false), ("", false), ("../../x", true)] {
        let mut repository = Repository::new();
        repository.delegate("targets", "team", &["*"], false, 9);
        repository.targets.get_mut("targets").unwrap().delegations.as_mut().unwrap().roles[0].name =
            role.into();
        repository.publish();
        let mut host = Host::default();
        assert_eq!(host.refresh(&repository).is_ok(), accepted, "{role}");
    }
}

#[test]
fn a_failed_search_leaves_the_client_ready_for_the_next() {
    let mut repository = Repository::new();
    repository.delegate("targets", "team", &["team/*"], false, 9);
    repository.signers.insert("team".into(), vec![10]);
    repository.publish();
    let mut host = Host::default();
    assert_eq!(host.target(&repository, "team/x").unwrap_err().kind(), Kind::Signature);
    host.target(&repository, "file").unwrap();
}

#[test]
fn a_walk_sees_every_role_once_and_none_hides_another() {
    let mut repository = Repository::new();
    repository.delegate("targets", "left", &["x"], true, 9);
    repository.delegate("targets", "right", &["y"], true, 10);
    repository.delegate("left", "deep", &["x"], false, 11);
    repository.delegate("right", "deep", &["y"], false, 11);
    repository.delegate("left", "forged", &["x"], false, 12);
    repository.signers.insert("forged".into(), vec![13]);
    repository.targets.get_mut("right").unwrap().header.expires = now() - days(1);
    repository.publish();
    repository.snapshot.meta.remove("deep.json");
    repository.publish_snapshot();
    let roles = Host::following(&repository).delegated(&repository);
    let rows = roles.iter().map(|role| {
        let problem = role.document.as_ref().err().map(|error| error.problem.clone());
        (role.name.as_str(), role.delegator.as_str(), problem)
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows[0], ("left", "targets", None));
    assert_eq!(rows[1], ("right", "targets", None), "expiry is for the caller to judge");
    assert_eq!(rows[2], ("deep", "left", Some(Problem::NotListed)));
    assert!(matches!(rows[3], ("forged", "left", Some(Problem::Signatures { .. }))), "{rows:?}");
    assert_eq!(rows.len(), 4);
}

#[test]
fn a_walk_takes_no_roles_word_on_a_role_that_targets_names() {
    let mut repository = Repository::new();
    repository.delegate("targets", "evil", &["x"], true, 9);
    repository.delegate("targets", "good", &["y"], true, 10);
    repository.add_target("good", "y", b"good");
    // It delegates to its neighbour's name, with a key of its own, and to more roles than are visited.
    repository.delegate("evil", "good", &["x"], true, 11);
    for number in 0..limits::ROLES {
        repository.delegate("evil", &format!("role-{number}"), &["x"], true, 11);
        repository.targets.remove(&format!("role-{number}"));
    }
    repository.signers.insert("good".into(), vec![10]);
    repository.publish();
    let roles = Host::following(&repository).delegated(&repository);
    let good = roles.iter().find(|role| role.name == "good").unwrap();
    assert_eq!((good.delegator.as_str(), good.document.as_ref().unwrap().targets.len()), ("targets", 1));
    let last = roles.last().unwrap().document.as_ref().unwrap_err();
    assert_eq!(last.problem, Problem::TooManyDelegations(limits::ROLES));
    assert_eq!(roles.len(), limits::ROLES + 1);
    // What the neighbour signs in its place is refused.
    repository.signers.insert("good".into(), vec![11]);
    repository.publish();
    let roles = Host::following(&repository).delegated(&repository);
    let good = roles.iter().find(|role| role.name == "good").unwrap();
    assert!(matches!(good.document.as_ref().unwrap_err().problem, Problem::Signatures { .. }), "{good:?}");
}
