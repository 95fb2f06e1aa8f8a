"""The ``varshare`` command."""
