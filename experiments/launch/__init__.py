"""Launches on other machines: each prints what it would start, or starts it."""
