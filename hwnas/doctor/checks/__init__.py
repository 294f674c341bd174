"""The checks: each takes a case and yields findings."""
