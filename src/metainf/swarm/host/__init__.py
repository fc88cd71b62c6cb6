"""Processes: a node, a directory server, the demonstration."""
