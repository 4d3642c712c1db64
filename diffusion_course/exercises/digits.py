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
    """Return to how many significant digits a finite `got` agrees with `expected`, at most 15.

    Both read the same when they are rounded to so many digits, or `got` is `expected` rounded.
    """
    if not expected:
        return 0
    right, own = Decimal(expected), Decimal(repr(float(got)))
    first = right.adjusted()
    error = abs(own - right)
    for count in range(15, 0, -1):
        same = f"{float(right):.{count - 1}e}" == f"{float(own):.{count - 1}e}"
        if same and error <= _half(first - count + 1, expected):
            return count
    return 0


def _written(value: float) -> Decimal:
    """The number as it is written, without zeros at its end."""
    return Decimal(repr(value)).normalize()


def _half(place: int, expected: float) -> Decimal:
    """Half a unit of a place, and a little for the rounding of floats."""
    return Decimal(5).scaleb(place - 1) + abs(Decimal(expected)) * Decimal("1e-9")
