"""Dynamics of our own, and the vector envs that step them all at once."""
