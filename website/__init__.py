"""The docs as a site: the same Markdown, with a navigation. `make docs` builds it."""
