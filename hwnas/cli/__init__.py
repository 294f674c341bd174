"""The command line: one module a command; parses and prints, decides nothing."""
