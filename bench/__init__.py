"""The benchmark: this server beside others, on the same database and the same load client."""
