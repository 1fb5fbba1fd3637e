//! Part 1: from the tar of a tree to tree store, image and hash tree.

use anyhow::Result;

use super::figures::Figure;
use super::images::Images;
use super::pair::Tree;
use super::publisher::Publisher;

/// Ours, which makes a UKI too, and if there are `images` what does the same in four steps.
pub(super) fn measure(publisher: &Publisher<'_>, images: Option<&Images<'_>>) -> Result<Vec<Figure>> {
    let ours = Figure::new("upright-build build", publisher.build_line(Tree::A), publisher.build(Tree::A)?);
    let Some(images) = images else { return Ok(vec![ours]) };
    let steps = images.make(Tree::A)?;
    let mut figures = vec![ours];
    let names = ["tar", "mkfs.erofs", "veritysetup format", "ostree commit"];
    let each = names.iter().zip(&steps);
    figures.extend(each.map(|(name, step)| Figure::new(name, step.line.clone(), step.cost)));
    if let Some(sum) = steps.iter().map(|step| step.cost).reduce(|a, b| a.and(b)) {
        figures.push(Figure::new("the four together", "-".to_owned(), sum));
    }
    Ok(figures)
}
