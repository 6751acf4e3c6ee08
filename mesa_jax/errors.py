"""What a user can mend: launches show its message alone, without a traceback."""


class UserError(Exception):
    """Holds every error whose message says what is wrong and what to do."""
