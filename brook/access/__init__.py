"""Access: claims identify a client; rules say which part of which stream it may hear."""
