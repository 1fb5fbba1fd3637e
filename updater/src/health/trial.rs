//! The course of a trial: every check until it passes, then all of them for the settling time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Probed, Prober};
use crate::config::{Check, Health, Probe};
use crate::host::Clock;
use crate::machine::{CheckResult, HealthReport, Verdict};

/// The name of the check for failed systemd units.
const FAILED_UNITS: &str = "failed-units";

/// How often the checks are looked at while they settle.
const SETTLE_STEP: Duration = Duration::from_secs(5);

/// Runs `checks` and the one for failed units, and gives the verdict.
pub fn examine(health: &Health, checks: &[Check], prober: &dyn Prober, clock: &dyn Clock) -> HealthReport {
    let deadline = clock.monotonic() + health.deadline.0;
    let mut course = Course { health, prober, clock, deadline, restarts: BTreeMap::new() };
    let mut results: Vec<CheckResult> = checks.iter().map(|check| course.until_passed(check)).collect();
    if health.failed_units {
        results.push(course.failed_units());
    }
    if results.iter().all(|result| result.passed || !result.required) {
        course.settle(checks, &mut results);
    }
    let healthy = results.iter().all(|result| result.passed || !result.required);
    let verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
    HealthReport { time: clock.now(), verdict, checks: results }
}

struct Course<'a> {
    health: &'a Health,
    prober: &'a dyn Prober,
    clock: &'a dyn Clock,
    deadline: Duration,
    /// How often each unit had been restarted when its check first passed.
    restarts: BTreeMap<String, u64>,
}

impl Course<'_> {
    fn until_passed(&mut self, check: &Check) -> CheckResult {
        let mut tries = 0;
        loop {
            let probed = self.look(check);
            tries += 1;
            let late = self.clock.monotonic() >= self.deadline;
            if probed.passed || tries > check.retries || late {
                if let (true, Some(restarts)) = (probed.passed, probed.restarts) {
                    self.restarts.insert(check.name.clone(), restarts);
                }
                return result(&check.name, check.required, probed, tries);
            }
            self.clock.sleep(check.interval.0);
        }
    }

    fn look(&self, check: &Check) -> Probed {
        let left = self.deadline.saturating_sub(self.clock.monotonic());
        if left.is_zero() {
            let message =
                format!("not looked at: the deadline of {} for the trial is over", self.health.deadline);
            return Probed { message, ..Probed::default() };
        }
        self.prober.probe(&check.probe, check.timeout.0.min(left))
    }

    fn failed_units(&self) -> CheckResult {
        let probed = match self.prober.failed_units(Duration::from_secs(30)) {
            Err(error) => Probed { message: error, ..Probed::default() },
            Ok(mut units) => {
                units.retain(|unit| !self.health.ignore_units.contains(unit));
                let message = match units.is_empty() {
                    true => "no unit has failed".to_owned(),
                    false => format!("failed: {}", units.join(" ")),
                };
                Probed { passed: units.is_empty(), message, ..Probed::default() }
            }
        };
        result(FAILED_UNITS, true, probed, 1)
    }

    /// Keeps looking until the settling time is over or something that passed does not pass any more.
    fn settle(&mut self, checks: &[Check], results: &mut [CheckResult]) {
        let until = self.clock.monotonic() + self.health.settle.0;
        while self.clock.monotonic() < until {
            let left = until.saturating_sub(self.clock.monotonic());
            self.clock.sleep(left.min(SETTLE_STEP));
            if let Some(broken) = self.broken(checks) {
                if let Some(result) = results.iter_mut().find(|result| result.name == broken.name) {
                    *result = CheckResult { tries: result.tries + 1, ..broken };
                }
                return;
            }
        }
    }

    fn broken(&self, checks: &[Check]) -> Option<CheckResult> {
        let required = checks.iter().filter(|check| check.required);
        let mut looks = required.map(|check| result(&check.name, true, self.look_again(check), 0));
        let broken = looks.find(|result| !result.passed);
        broken
            .or_else(|| self.health.failed_units.then(|| self.failed_units()).filter(|result| !result.passed))
    }

    fn look_again(&self, check: &Check) -> Probed {
        let probed = self.look(check);
        let before = self.restarts.get(&check.name).copied();
        match (&check.probe, probed.restarts, before) {
            (Probe::Unit(unit), Some(now), Some(before)) if probed.passed && now > before => Probed {
                passed: false,
                message: format!("{unit} was restarted {} times while it should have settled", now - before),
                ..probed
            },
            _ => probed,
        }
    }
}

fn result(name: &str, required: bool, probed: Probed, tries: u32) -> CheckResult {
    let Probed { passed, message, output, .. } = probed;
    CheckResult { name: name.to_owned(), required, passed, message, output, tries }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Mutex;

    use jiff::Timestamp;

    use super::*;
    use crate::config::Time;

    /// A clock that moves only when somebody sleeps.
    #[derive(Default)]
    struct StillClock(Mutex<Duration>);

    impl Clock for StillClock {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
        fn sleep(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    /// Answers by a script of (second, unit's state) and a list of failed units.
    struct Script<'a> {
        clock: &'a StillClock,
        unit: Box<dyn Fn(u64) -> Probed>,
        failed: RefCell<Vec<String>>,
    }

    impl Prober for Script<'_> {
        fn probe(&self, _: &Probe, _: Duration) -> Probed {
            (self.unit)(self.clock.monotonic().as_secs())
        }
        fn failed_units(&self, _: Duration) -> Result<Vec<String>, String> {
            Ok(self.failed.borrow().clone())
        }
    }

    fn check(retries: u32) -> Check {
        Check {
            name: "app".into(),
            probe: Probe::Unit("app.service".into()),
            required: true,
            timeout: Time(Duration::from_secs(1)),
            retries,
            interval: Time(Duration::from_secs(2)),
        }
    }

    fn up(restarts: u64) -> Probed {
        Probed { passed: true, message: "active".into(), restarts: Some(restarts), ..Probed::default() }
    }

    fn down() -> Probed {
        Probed { message: "failed".into(), ..Probed::default() }
    }

    fn run(retries: u32, failed: &[&str], unit: impl Fn(u64) -> Probed + 'static) -> (HealthReport, u64) {
        let clock = StillClock::default();
        let failed = RefCell::new(failed.iter().map(|&unit| unit.to_owned()).collect());
        let script = Script { clock: &clock, unit: Box::new(unit), failed };
        let health = Health { ignore_units: vec!["known.service".into()], ..Health::default() };
        let report = examine(&health, &[check(retries)], &script, &clock);
        (report, clock.monotonic().as_secs())
    }

    #[test]
    fn what_holds_from_the_start_settles_for_the_whole_time() {
        let (report, seconds) = run(0, &["known.service"], |_| up(0));
        assert_eq!((report.verdict, seconds), (Verdict::Healthy, 90));
    }

    #[test]
    fn a_slow_start_is_waited_for_within_the_retries() {
        let slow = |second| if second < 5 { down() } else { up(0) };
        assert_eq!(run(3, &[], slow).0.verdict, Verdict::Healthy);
        let (report, seconds) = run(2, &[], slow);
        assert_eq!((report.verdict, seconds), (Verdict::Unhealthy, 4));
        assert_eq!(report.culprit().map(|check| check.message.as_str()), Some("failed"));
    }

    #[test]
    fn a_crash_while_settling_is_unhealthy() {
        // A minute later, as delivered.
        let (report, seconds) = run(0, &[], |second| if second < 60 { up(0) } else { down() });
        assert_eq!((report.verdict, seconds), (Verdict::Unhealthy, 60));
    }

    #[test]
    fn a_service_that_keeps_coming_back_is_unhealthy() {
        let (report, _) = run(0, &[], |second| up(u64::from(second >= 10)));
        assert_eq!(report.verdict, Verdict::Unhealthy);
        assert!(report.culprit().unwrap().message.contains("restarted 1 times"), "{report:?}");
    }

    #[test]
    fn a_failed_unit_is_unhealthy() {
        let (report, _) = run(0, &["other.service"], |_| up(0));
        assert_eq!(report.culprit().map(|check| check.name.as_str()), Some(FAILED_UNITS));
    }

    #[test]
    fn the_deadline_ends_endless_retries() {
        let (report, seconds) = run(u32::MAX, &[], |_| down());
        assert_eq!(report.verdict, Verdict::Unhealthy);
        assert_eq!(seconds, 600);
    }
}
