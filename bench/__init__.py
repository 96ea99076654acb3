"""The benchmark: compares this server with others, on the same database and with the same load client."""
