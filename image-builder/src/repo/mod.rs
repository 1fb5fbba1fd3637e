//! The repository: workspace, publishing, auditing, serving.

pub mod metadata;
