"""Errors that end a launch with a message."""


class NotFiniteError(ArithmeticError):
    """A loss or a state stopped being a number; names stage, step, body and seed."""
