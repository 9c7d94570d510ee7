"""Reports: one self-contained HTML file, Markdown and CSV; and samples as pictures."""
