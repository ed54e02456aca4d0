"""Errors a person is meant to read: what was expected, what was found, and what to do."""


class PosescaleError(Exception):
    """Base of every error caused by input, files or the machine; the command line prints it without a traceback."""


class DataError(PosescaleError):
    """A data file is missing, torn, mis-shaped or implausible."""


class FetchError(DataError):
    """A file could not be downloaded: the server, the connection, the disk, or what arrived."""


class ConsentError(PosescaleError):
    """A licence that must be accepted first was not."""


class CheckpointError(PosescaleError):
    """A checkpoint file cannot be read or does not fit the model."""


class ConfigError(PosescaleError):
    """A configuration key or value is unknown or of the wrong type."""


class UnavailableError(PosescaleError):
    """Something that was asked for by name (a back end, a model, a device) is not to be had on this machine."""


class ShapeError(PosescaleError, ValueError):
    """A tensor given to a model has the wrong shape."""
