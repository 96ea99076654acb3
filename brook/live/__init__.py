"""Live mode: result sets that stay true. A snapshot, then one event for each batch of changes."""
