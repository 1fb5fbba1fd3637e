//! Bar charts as SVG, readable on a light and on a dark page.

use std::fmt::Write;

/// A bar.
pub(super) struct Bar {
    /// What it is of.
    pub(super) label: String,
    /// How long it is; more than zero.
    pub(super) value: f64,
    /// What stands beside it.
    pub(super) text: String,
    /// Whether it is ours.
    pub(super) ours: bool,
}

/// How values become lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Twice the value, twice the length.
    Linear,
    /// Ten times the value, one grid line further.
    Logarithmic,
}

const LABELS: f64 = 190.0;
const BARS: f64 = 450.0;
const TEXTS: f64 = 100.0;
const ROW: f64 = 24.0;
const TOP: f64 = 34.0;
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;font-size:14px}\
    .ours{fill:#1a7f5a}.theirs{fill:#9aa5b1}.grid{stroke:#9aa5b1;stroke-opacity:.35}\
    @media(prefers-color-scheme:dark){text{fill:#c9d1d9}.ours{fill:#3fb58a}.theirs{fill:#6e7681}}";

/// A chart with a bar a row. `grid` gives the text of a grid line.
pub(super) fn draw(title: &str, bars: &[Bar], scale: Scale, grid: impl Fn(f64) -> String) -> String {
    let axis = Axis::over(bars, scale);
    let width = LABELS + BARS + TEXTS;
    let bottom = TOP + ROW * bars.len() as f64;
    let height = bottom + 22.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"0\" y=\"16\">{0}</text>\n",
        escape(title)
    );
    for at in axis.lines() {
        let x = LABELS + axis.length(at);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 15.0,
            escape(&grid(at))
        );
    }
    for (number, bar) in bars.iter().enumerate() {
        row(&mut svg, bar, TOP + ROW * number as f64, axis.length(bar.value));
    }
    svg + "</svg>\n"
}

fn row(svg: &mut String, bar: &Bar, top: f64, length: f64) {
    let class = if bar.ours { "ours" } else { "theirs" };
    let base = top + 16.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>\n\
         <rect class=\"{class}\" x=\"{LABELS}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"16\" rx=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{base:.1}\">{}</text>",
        LABELS - 8.0,
        escape(&bar.label),
        top + 4.0,
        LABELS + length + 6.0,
        escape(&bar.text)
    );
}

/// From what to what the bars go.
struct Axis {
    scale: Scale,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(bars: &[Bar], scale: Scale) -> Self {
        let values = || bars.iter().map(|bar| bar.value);
        let largest = values().fold(f64::MIN_POSITIVE, f64::max);
        let smallest = values().fold(largest, f64::min);
        match scale {
            Scale::Linear => Self { scale, from: 0.0, to: largest },
            // Whole decades, so that the smallest bar is one to be seen.
            Scale::Logarithmic => Self { scale, from: decade(smallest * 0.7).floor(), to: decade(largest) },
        }
    }

    fn length(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Linear { value } else { decade(value) };
        ((value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * BARS
    }

    /// Where grid lines are.
    fn lines(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let tens = 10_f64.powf(decade(self.to).floor());
                let step = [0.2, 0.5, 1.0, 2.0].map(|part| part * tens);
                let step = step.into_iter().find(|step| self.to / step <= 6.0).unwrap_or(tens);
                (0..=6).map(|count| f64::from(count) * step).filter(|at| *at <= self.to).collect()
            }
            Scale::Logarithmic => {
                (self.from as i32..=self.to.floor() as i32).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }
}

fn decade(value: f64) -> f64 {
    value.max(f64::MIN_POSITIVE).log10()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(values: &[f64]) -> Vec<Bar> {
        let bar = |&value: &f64| Bar { label: "a<b".into(), value, text: value.to_string(), ours: false };
        values.iter().map(bar).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_nothing() {
        let axis = Axis::over(&bars(&[1.0, 12.4]), Scale::Linear);
        assert_eq!((axis.length(0.0), axis.length(6.2), axis.length(12.4)), (0.0, BARS / 2.0, BARS));
        assert_eq!(axis.lines(), [0.0, 5.0, 10.0]);
    }

    #[test]
    fn a_logarithmic_axis_has_a_line_a_decade() {
        let axis = Axis::over(&bars(&[2e6, 4e8]), Scale::Logarithmic);
        assert_eq!(axis.lines(), [1e6, 1e7, 1e8]);
        assert_eq!(axis.length(4e8), BARS);
        assert!(axis.length(2e6) > 0.0);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let svg = draw("x & y", &bars(&[1.0]), Scale::Linear, |at| at.to_string());
        assert!(svg.contains("x &amp; y") && svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
    }
}
