"""Errors that end in one clear line on the terminal, not in a traceback."""


class ConfigError(ValueError):
    """Bad input; its text is one clear line that names the key, the value and what is allowed."""


class RunError(RuntimeError):
    """A run that cannot go on; its text is one line that says what happened and where."""


class EnvError(RunError):
    """An env raised, died, or gave something that is no observation or reward; the weights are whole."""


class NonFiniteError(RunError):
    """A loss or gradient is not finite; the step was not taken."""
