"""From a batch of events to the sockets: subscribers, groups, history, replay and periodic work."""
