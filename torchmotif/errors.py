"""Errors that torchmotif raises: each derives from `TorchMotifError` and from the builtin a caller would expect."""

__all__ = [
    "CompositionError",
    "InputError",
    "InputTypeError",
    "MissingDependencyError",
    "MissingFileError",
    "OutOfMemoryError",
    "OutputError",
    "ReadError",
    "TorchMotifError",
    "TorchMotifWarning",
]


class TorchMotifError(Exception):
    """Base of every error that torchmotif raises on purpose."""


class InputError(TorchMotifError, ValueError):
    """An argument has a value that cannot be used."""


class CompositionError(InputError):
    """A chemical formula does not fit an image."""


class InputTypeError(TorchMotifError, TypeError):
    """An argument has a type that cannot be used."""


class ReadError(TorchMotifError, OSError):
    """A file cannot be read, or is not what its name says."""


class MissingFileError(ReadError, FileNotFoundError):
    """There is no file at the given path."""


class OutputError(TorchMotifError, OSError):
    """A result cannot be written."""


class OutOfMemoryError(TorchMotifError, MemoryError):
    """Memory ran out, and smaller steps did not help; the message says what to set."""


class MissingDependencyError(TorchMotifError, ImportError):
    """An optional package is needed; the message holds the line that installs it."""


class TorchMotifWarning(UserWarning):
    """Something a user should know of, and can do something about."""
