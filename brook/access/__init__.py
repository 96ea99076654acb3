"""Access: who may hear what. Claims say who a client is; rules say what that client may hear."""
