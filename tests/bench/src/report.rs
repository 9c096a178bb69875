//! Rows of the comparison as Markdown, between marks in `docs/performance.md`.
