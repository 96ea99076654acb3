"""The command line: options from the settings and the configuration file, and the commands for tokens."""
