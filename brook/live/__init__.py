"""Live mode: result sets that are kept up to date. A snapshot, then one event for each batch of changes."""
