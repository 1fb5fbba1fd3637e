//! What was measured, for people: tables in Markdown, and charts.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use upright_manifests::bytes::{exact, human};

use super::chart::{Bar, Scale, draw};
use super::delta_row::{DeltaRow, Measured};
use super::figures::{Figure, Figures, Limit, Sized, Unit};
use super::host::READ;
use super::pair::Pair;
use super::peers::is_whole;

const INTRODUCTION: &str = "\
# Benchmarks

`make bench` measures what this page shows, and writes it. Three trees of one set of 305 Debian packages are its input: **A**, bookworm
without its updates; **B**, the same set with security and point updates, a new kernel among them; **C**, A with nothing but OpenSSL
updated. Two further sets with and without the same OpenSSL are smaller and larger, and **D** is the set of A in the next Debian, trixie.
`tests/bench/make-trees` builds them.

* CPU is user and system time of the whole process and its children, by the kernel's account; peak memory is that of the largest
  single process; written is what went to files. Time by the clock is left out: it says more about the machine.
  What Upright updates is updated three times, and the middle one by CPU time is told; the peers are run once.
* *Fetched* is, for Upright, every byte of every answer that the server sent: TUF metadata, channel, manifest, index, image and UKI. For
  the peers it is the image's update alone.
* Every outcome is compared by its SHA-256 with what it should be. Upright's costs include the read-back of the slot, its hash tree, the
  UKI and its own verification of everything.
* The host of an update has the old release in both slots.
";

/// Writes the page and its charts into `folder`.
pub(super) fn write(folder: &Path, figures: &Figures, deltas: &[Measured]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut page = INTRODUCTION.to_owned();
    let machine = &figures.machine;
    let _ = writeln!(
        page,
        "* Measured on {} cores ({}) with {} of memory.\n",
        machine.cores,
        machine.processor,
        human(machine.memory_bytes)
    );
    page += &tables(figures, deltas);
    page += &commands(figures, deltas);
    for (name, picture) in charts(deltas) {
        let path = folder.join(&name);
        fs::write(&path, picture).with_context(|| format!("writing {}", path.display()))?;
    }
    let path = folder.join("README.md");
    fs::write(&path, page.trim_end().to_owned() + "\n").with_context(|| format!("writing {}", path.display()))
}

/// The tables.
pub(super) fn tables(figures: &Figures, deltas: &[Measured]) -> String {
    let mut text = section("Limits", &limits(&figures.limits));
    if !figures.build.is_empty() {
        text += &section("Building A: tree, image, hash tree", &costs(&figures.build));
    }
    if !figures.install.is_empty() {
        text += &section("Installing A in full, read back", &costs(&figures.install));
    }
    for pair in Pair::COMPARED {
        let rows: Vec<&DeltaRow> =
            deltas.iter().map(|measured| &measured.row).filter(|row| row.pair == pair.to_string()).collect();
        if !rows.is_empty() {
            let picture = |what: &str| format!("![{what}]({pair}-{what}.svg)\n");
            let body = format!("{}{}\n{}", picture("bytes"), picture("cpu"), updates(&rows));
            text += &section(pair.title(), &body);
        }
    }
    if !figures.sizes.is_empty() {
        text += &section("The same hotfix for images of three sizes", &sizes(&figures.sizes));
    }
    if !figures.major.is_empty() {
        let rows: Vec<&DeltaRow> = figures.major.iter().collect();
        text += &section(Pair::MAJOR.title(), &updates(&rows));
    }
    text
}

/// What grows with the image when a hotfix is applied is the read-back, so it has a column of its own.
fn sizes(sizes: &[Sized]) -> String {
    let mut text = format!(
        "The whole slot is read back and hashed in each update, before anything can boot from it; *reading* is `{READ}`, which does that \
         alone.\n\n\
         | image | reading: CPU | fetched | make: CPU | memory | apply: CPU | memory | written | verified |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|---|\n"
    );
    for Sized { image_bytes, reading_cpu_s, row } in sizes {
        let _ = writeln!(text, "| {} | {reading_cpu_s:.1} s {}", human(*image_bytes), numbers(row));
    }
    text
}

fn section(title: &str, body: &str) -> String {
    format!("## {title}\n\n{body}\n")
}

fn limits(limits: &[Limit]) -> String {
    let mut text = "| what | measured | at most | |\n|---|--:|--:|---|\n".to_owned();
    for limit in limits {
        let show = |value| match limit.unit {
            Unit::CpuSeconds => format!("{value:.1} s"),
            Unit::Bytes => format!("{} B", exact(value as u64)),
            Unit::Ratio => format!("{value:.4}"),
        };
        let verdict = if limit.holds { "PASS" } else { "FAIL" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {verdict} |",
            limit.what,
            show(limit.measured),
            show(limit.most)
        );
    }
    text
}

fn costs(figures: &[Figure]) -> String {
    let mut text =
        "| | bytes | CPU | peak memory | written | command |\n|---|--:|--:|--:|--:|---|\n".to_owned();
    for Figure { name, command, cost, bytes } in figures {
        let bytes = bytes.map_or(String::new(), exact);
        let command = if command == "-" { String::new() } else { format!("`{}`", cell(command)) };
        let (rss, written) = (human(cost.rss_bytes), human(cost.written_bytes));
        let _ = writeln!(text, "| {name} | {bytes} | {:.2} s | {rss} | {written} | {command} |", cost.cpu_s);
    }
    text
}

fn updates(rows: &[&DeltaRow]) -> String {
    let mut text = "| method | fetched | make: CPU | memory | apply: CPU | memory | written | verified |\n\
                    |---|--:|--:|--:|--:|--:|--:|---|\n"
        .to_owned();
    for row in sorted(rows) {
        let name = if row.is_ours() { format!("**{}**", row.method) } else { row.method.clone() };
        let _ = writeln!(text, "| {name} {}", numbers(row));
    }
    text
}

fn numbers(row: &DeltaRow) -> String {
    format!(
        "| {} | {:.1} s | {} | {:.1} s | {} | {} | {} |",
        exact(row.bytes),
        row.make_cpu_s,
        human(row.make_rss_bytes),
        row.apply_cpu_s,
        human(row.apply_rss_bytes),
        human(row.written_bytes),
        if row.verified { "yes" } else { "**NO**" }
    )
}

/// Ours first, then the others by what they fetch, and last what updates a part of the system only.
fn sorted<'a>(rows: &[&'a DeltaRow]) -> Vec<&'a DeltaRow> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (!is_whole(&row.method), !row.is_ours(), row.bytes));
    rows
}

/// How each row of the updates came about.
fn commands(figures: &Figures, deltas: &[Measured]) -> String {
    let mut text = String::new();
    for Measured { row, make, apply, note, .. } in deltas {
        let note = if note.is_empty() { String::new() } else { format!(" {note}") };
        let _ = writeln!(
            text,
            "| {} | {} | `{}` | `{}` |{note} |",
            row.pair,
            row.method,
            cell(make),
            cell(apply)
        );
    }
    match text.is_empty() {
        true => String::new(),
        false => section(
            "The commands of the updates",
            &format!(
                "`A.img`, `B.img` and `C.img` are {}; the peers' updates lie in `scratch`. A way of the agent's that is not \
                 the cheapest is forced by `limits.without` in the host's configuration.\n\n\
                 | pair | method | make | apply | |\n|---|---|---|---|---|\n{text}",
                figures.build.iter().find(|figure| figure.name == "mkfs.erofs").map_or(
                    "made by mkfs.erofs".to_owned(),
                    |figure| format!("made by `{}`", cell(&figure.command))
                )
            ),
        ),
    }
}

/// A command line in a cell of a table.
fn cell(command: &str) -> String {
    command.replace('|', "\\|")
}

fn charts(deltas: &[Measured]) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    for pair in Pair::COMPARED {
        let rows: Vec<&DeltaRow> =
            deltas.iter().map(|measured| &measured.row).filter(|row| row.pair == pair.to_string()).collect();
        if rows.is_empty() {
            continue;
        }
        let bars = |value: fn(&DeltaRow) -> f64, text: fn(&DeltaRow) -> String| -> Vec<Bar> {
            let bar = |row: &&DeltaRow| Bar {
                label: row.method.clone(),
                value: value(row),
                text: text(row),
                ours: row.is_ours(),
            };
            let mut bars: Vec<Bar> = rows.iter().filter(|row| is_whole(&row.method)).map(bar).collect();
            bars.sort_by(|a, b| a.value.total_cmp(&b.value));
            bars
        };
        let bytes = bars(|row| row.bytes as f64, |row| human(row.bytes));
        let title = format!("{pair}: bytes to fetch (logarithmic)");
        let grid = |at: f64| human(at as u64);
        charts.push((format!("{pair}-bytes.svg"), draw(&title, &bytes, Scale::Logarithmic, grid)));
        let cpu = bars(|row| row.apply_cpu_s, |row| format!("{:.1} s", row.apply_cpu_s));
        let title = format!("{pair}: seconds of CPU on the host");
        charts.push((format!("{pair}-cpu.svg"), draw(&title, &cpu, Scale::Linear, |at| format!("{at} s"))));
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, bytes: u64) -> DeltaRow {
        let (pair, method) = ("A-B".to_owned(), method.to_owned());
        DeltaRow {
            pair,
            method,
            bytes,
            make_cpu_s: 1.0,
            make_rss_bytes: 1,
            apply_cpu_s: 1.0,
            apply_rss_bytes: 1,
            written_bytes: 1,
            verified: false,
        }
    }

    #[test]
    fn ours_come_first_and_failures_stand_out() {
        let (ours, small, large) = (row("upright-full", 9), row("a", 1), row("b", 2));
        let part = row("bsdiff-kernel-initrd", 0);
        let text = updates(&[&part, &large, &ours, &small]);
        let order = ["upright-full", "| a |", "| b |", "bsdiff"].map(|name| text.find(name).unwrap());
        assert!(order.is_sorted() && text.contains("**NO**"), "{text}");
    }

    #[test]
    fn a_pipe_does_not_end_a_cell() {
        assert_eq!(cell("a | b"), "a \\| b");
    }
}
