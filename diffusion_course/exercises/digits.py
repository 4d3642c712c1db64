"""Compare a number that was found with the right one: to the digits that it is written with.

3.14 for pi is right, so is 3.1416; 3.143 and 3.1 are not. Python keeps no zeros at a number's end,
so 3.00 arrives as 3.0 and counts as written with as many digits as are asked for.
"""

from __future__ import annotations

from decimal import Decimal

from .definition import Tolerance

LONGEST = 5  # a number of more digits is one that was computed: the tolerance holds for it


def is_right(expected: float, got: float, digits: int, tolerance: Tolerance) -> bool:
    """True where `got`, finite, is right in each digit it is written with, `digits` at least.

    What is expected as an int has to be that int. A number of more than LONGEST digits may be off
    by the tolerance, which a hand that rounds does not come near.
    """
    if isinstance(expected, int) or got == expected:
        return got == expected
    error = abs(Decimal(got) - Decimal(expected))
    written = _written(got)
    if error <= Decimal(tolerance.rtol) * abs(Decimal(expected)) + Decimal(tolerance.atol):
        if len(written.as_tuple().digits) > LONGEST or tolerance.rtol > Tolerance().rtol:
            return True
    places = [written.as_tuple().exponent, Decimal(expected).adjusted() - digits + 1]
    return error <= _half(min(places), expected)


def agreement(expected: float, got: float) -> int:
    """Return how many significant digits of `expected` a finite `got` agrees to, at most 15."""
    if not expected:
        return 0
    error, first = abs(Decimal(got) - Decimal(expected)), Decimal(expected).adjusted()
    return next((n for n in range(15, 0, -1) if error <= _half(first - n + 1, expected)), 0)


def _written(value: float) -> Decimal:
    """The number as it is written, without zeros at its end."""
    return Decimal(repr(value)).normalize()


def _half(place: int, expected: float) -> Decimal:
    """Half a unit of a place, and a little for the rounding of floats."""
    return Decimal(5).scaleb(place - 1) + abs(Decimal(expected)) * Decimal("1e-9")
