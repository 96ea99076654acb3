"""The way from a batch of events to the sockets. Only replay and keeper ever await."""
