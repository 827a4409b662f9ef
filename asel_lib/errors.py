"""Errors a user can act on. Each message names the value, what was expected and what to do.
A wrong argument is a plain ValueError."""


class AselError(Exception):
    """Base of the errors below, so that a caller can catch them all."""


class DatasetError(AselError):
    """An image set is there but cannot be used as it is."""


class DatasetMissing(AselError):
    """An image set is not there; the message says in one line what to put where."""


class CheckpointError(AselError):
    """A checkpoint is damaged, of another architecture, or does not match what was asked."""


class ExtraMissing(AselError, ImportError):
    """A package is not installed that only an extra of this project brings."""


class TrainingError(AselError):
    """Training cannot go on, e.g. the loss is not finite."""


class ExportError(AselError):
    """A model cannot be exported as asked, or what exporting needs is not installed."""
