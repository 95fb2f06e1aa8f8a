"""Watching a policy: every task side by side, to a GIF, an MP4 or a window."""
