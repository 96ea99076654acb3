"""Exact versions of everything that `make` installs; `make upgrade` renews them."""
