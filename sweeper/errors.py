"""The one error that a user's own text can cause."""

from __future__ import annotations


class ConfigError(ValueError):
    """Something in a config (file, mapping or command line) that the user can mend.

    `key` is the dotted path as written in the YAML file (`parameters.train.gamma.min`),
    `message` says what is wrong with which value, `mend` what to do about it.
    """

    def __init__(self, key: str, message: str, mend: str = "") -> None:
        self.key, self.message, self.mend = key, message, mend
        super().__init__(key, message, mend)

    def __str__(self) -> str:
        text = f"{self.key}: {self.message}" if self.key else self.message
        return f"{text}; {self.mend}" if self.mend else text
