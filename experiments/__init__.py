"""Launches: flags, build, a loop of compiled chunks, write."""
