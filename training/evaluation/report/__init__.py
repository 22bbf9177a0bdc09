"""What was measured: summaries, tables and a page."""
