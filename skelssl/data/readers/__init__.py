"""Published data sets from their files."""
