"""Access: claims identify a client; rules decide which part of each stream it may read."""
