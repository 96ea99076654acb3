"""The core: events, the wire format, the subscriber list. Knows neither Tornado nor MongoDB's driver."""

__version__ = "0.1.0"
