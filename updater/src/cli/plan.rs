//! `upright plan`.

use std::fmt::Write as _;
use std::str::EscapeDebug;

use clap::Args;
use upright_manifests::bytes::human;
use upright_manifests::state::Kind;

use super::exit::{Exit, Failure};
use super::{Context, output};
use crate::agent::AgentError;
use crate::plan::{Because, Difference, Plan, PlanError, plan};
use crate::state::Layout;

/// Show what becomes of /etc and of what is versioned in /var when the other slot boots, before it does
///
/// File by file: which local changes in /etc are in the way of what the release there changes; what follows this host; what is copied
/// or comes back, and whether there is room.
#[derive(Debug, Args)]
#[command(name = "plan")]
pub(super) struct PlanCommand {
    /// List the local changes that are in the way of nothing, too
    #[arg(long)]
    all: bool,
}

impl PlanCommand {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        let record = context.record()?;
        let slot = context.host.machine().booted().map_err(AgentError::from)?.slot.other();
        let Some(installed) = record.slots.get(&slot) else {
            let line = format!(
                "slot {slot} holds no complete release, so no boot of it can be planned; `upright update` brings one there"
            );
            return Err(Failure::new(Exit::Refused, line));
        };
        let layout = Layout::around(&context.folder);
        let plan = plan(context.host.as_ref(), &layout, slot, installed.version.clone())?;
        output::print(context.json, &plan, || describe(&plan, self.all))?;
        Ok(Exit::Done)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::new(Exit::Host, error.to_string())
    }
}

fn describe(plan: &Plan, all: bool) -> String {
    let Plan { slot, version, .. } = plan;
    let begins = match (plan.reset, plan.first_boot) {
        (Some(request), _) => super::reset::describe(request),
        (None, true) => "its first boot begins with the /etc of the slot that runs".to_owned(),
        (None, false) => "it has the /etc that it had when it ran last".to_owned(),
    };
    let mut text = format!("{version} in slot {slot}: {begins}\n");
    for difference in &plan.differences {
        let _ = writeln!(text, "  {}: {}", shown(&difference.path), reason(difference, version.as_str()));
    }
    if plan.differences.is_empty() {
        text.push_str("  no local change is in the way of what the release changes\n");
    }
    list(&mut text, &plan.local, all, "in the way of nothing");
    list(&mut text, &plan.stays, all, "of the slot that runs only, and not seen there");
    for follows in &plan.follows {
        let how = match follows.kind {
            Kind::Accounts => "follows this host, with the users that only the release knows",
            _ => "follows this host",
        };
        let _ = writeln!(text, "  {}: {how}", shown(&follows.path));
    }
    for copied in &plan.versioned {
        let how = match plan.first_boot {
            true => format!("copied at the first boot, takes {}", human(copied.bytes)),
            false => "is as it was when the slot ran last".to_owned(),
        };
        let _ = writeln!(text, "  {}: {how}", copied.path);
    }
    if plan.first_boot && !plan.versioned.is_empty() {
        let (needed, available) = (human(plan.room.needed), human(plan.room.available));
        let short = match plan.missing {
            0 => String::new(),
            missing => {
                format!(": {missing} bytes too few, so the release would not start; make room in /var")
            }
        };
        let _ = writeln!(text, "  room for that in /var: {needed} of {available}{short}");
    }
    if let Some(error) = &plan.reset_error {
        let _ = writeln!(
            text,
            "  warning: the reset that was asked for cannot be read, so no boot carries it out: {error}"
        );
    }
    for line in plan.unfit.iter().chain(&plan.bad_lines) {
        let _ = writeln!(text, "  warning: {line}");
    }
    text
}

/// Changes that need no line each.
fn list(text: &mut String, paths: &[String], all: bool, what: &str) {
    if paths.is_empty() {
        return;
    }
    let more = if all { "" } else { " (`--all` lists them)" };
    let _ = writeln!(text, "  local changes {what}: {}{more}", paths.len());
    for path in paths.iter().filter(|_| all) {
        let _ = writeln!(text, "    {}", shown(path));
    }
}

/// A name that anybody may have given, on one line.
fn shown(path: &str) -> EscapeDebug<'_> {
    path.escape_debug()
}

fn reason(difference: &Difference, version: &str) -> String {
    let (what, follows) = match difference.because {
        Because::Changed => ("changed here and in", "; what is here counts"),
        Because::Deleted => ("deleted here and changed in", "; it stays deleted"),
        Because::Added => ("added here and now also in", "; what is here counts"),
        Because::Removed => ("changed here and no longer in", "; what is here stays"),
        Because::Hidden => ("changed in", ", and hidden by what is of this host's making: "),
    };
    format!("{what} {version}{follows}{}", shown(difference.by.as_deref().unwrap_or_default()))
}
