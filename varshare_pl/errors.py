"""The errors a user can cause."""


class ConfigError(ValueError):
    """Bad input; its text is one clear line that names the key, the value and what is allowed."""
