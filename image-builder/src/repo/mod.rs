//! The repository: workspace, publishing, auditing, serving.
