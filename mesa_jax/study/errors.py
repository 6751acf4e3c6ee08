"""Errors that end a launch with a message."""


class NotFiniteError(ArithmeticError):
    """Says that a loss or a state is not a number: stage, step, body and seed."""


class ExportError(RuntimeError):
    """Says which exported form decides otherwise than it should."""
