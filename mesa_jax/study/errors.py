"""Errors that end a launch with a message."""

from mesa_jax.errors import UserError


class NotFiniteError(UserError, ArithmeticError):
    """Says that a loss or a state is not a number: stage, step, body and seed."""


class ExportError(UserError, RuntimeError):
    """Says which exported form decides otherwise than it should."""
