"""How long something takes, as a person reads it."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Write a time in the two largest units that it has.

    Examples
    --------
    >>> duration(59.4), duration(61), duration(3720)
    ('59 s', '1 min', '1 h 2 min')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
