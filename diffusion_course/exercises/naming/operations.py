"""Changes of an operation, a comparison, an index or a number."""

from __future__ import annotations

import ast
from collections.abc import Iterator

Found = tuple[str, str, ast.AST]  # name, explanation, what stands in the node's place
COMES = "Your numbers are those of the right formula"
_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
_POWERS = {0.5: "a square root is missing", 2: "a square is missing"}
_INSIDE = (
    *(ast.Call, ast.Attribute, ast.keyword, ast.Subscript, ast.Tuple, ast.Starred, ast.List),
)


def is_number(node: ast.AST, *values: float) -> bool:
    """True for a number that is written out, one of `values` if there are any."""
    if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
        return False
    return not values or node.value in values


def of_expression(node: ast.expr, parent: ast.AST) -> Iterator[Found]:
    """Yield what may wrongly stand in the place of an expression."""
    if isinstance(node, ast.BinOp):
        yield from _of_operation(node)
    if isinstance(node, ast.UnaryOp):
        if is_number(node.operand):  # -1, which counts from the end
            why = f"{COMES} with another axis or index in one place."
            yield "another axis or index", why, node.operand
        else:
            why = f"{COMES} without one of its minus signs, or one of its `~` or `not`."
            yield "a sign or a `not` is missing", why, node.operand
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for kind in _COMPARISONS.get(type(node.ops[0]), ()):
            why = f"{COMES} with one comparison changed: look at `<`, `<=`, `>` and `==`."
            yield "another comparison", why, ast.Compare(node.left, [kind()], node.comparators)
    if isinstance(node, ast.BoolOp):
        for one in node.values:
            yield "a condition is missing", f"{COMES} with one of two conditions left out.", one
    if isinstance(node, ast.Subscript):
        why = f"{COMES} without one of its indices or slices: all is taken where a part belongs."
        yield "an index or a slice is missing", why, node.value
    if isinstance(node, ast.Slice):
        why = f"{COMES} with a slice that does not stop, or start, where it should."
        yield "a slice is too long", why, ast.Slice(None, node.upper, node.step)
        yield "a slice is too long", why, ast.Slice(node.lower, None, node.step)
    if isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield "a transpose is missing", f"{COMES} without a transpose.", node.value
    if is_number(node):
        yield from _of_number(node)
    elif isinstance(node, (ast.Name, ast.Call, ast.BinOp)) and not isinstance(parent, _INSIDE):
        yield from _too_many(node)


def _binary(left: ast.expr, kind: type[ast.operator], right: ast.expr) -> ast.BinOp:
    return ast.BinOp(left, kind(), right)


def _too_many(node: ast.expr) -> Iterator[Found]:
    """Yield what makes too much of a quantity."""
    why = f"{COMES} with a square root where there is none, or without a square."
    yield "a square root too many", why, _binary(node, ast.Pow, ast.Constant(0.5))
    why = f"{COMES} with a square where there is none."
    yield "a square too many", why, _binary(node, ast.Pow, ast.Constant(2))
    yield "a sign is wrong", f"{COMES} with one sign changed.", ast.UnaryOp(ast.USub(), node)
    why = f"{COMES} with `1 - ...` of a quantity that belongs there as it is."
    yield "one minus too many", why, _binary(ast.Constant(1), ast.Sub, node)
    for factor, word in ((2, "2"), (0.5, "one half")):
        why = f"{COMES} with a factor of {word} that does not belong there."
        more = _binary(ast.Constant(factor), ast.Mult, node)
        yield f"a factor of {word} too many", why, more


def _of_operation(node: ast.BinOp) -> Iterator[Found]:
    left, right, op = node.left, node.right, node.op
    if isinstance(op, (ast.Add, ast.Sub)):
        yield from _of_sum(node)
    elif isinstance(op, ast.Mult):
        why = f"{COMES} with a division where a product belongs."
        yield "divided instead of multiplied", why, _binary(left, ast.Div, right)
        yield "divided instead of multiplied", why, _binary(right, ast.Div, left)
        why = f"{COMES} with a sum where a product belongs."
        yield "a sum instead of a product", why, _binary(left, ast.Add, right)
    elif isinstance(op, (ast.Div, ast.FloorDiv)):
        why = f"{COMES} with a product where a division belongs."
        yield "multiplied instead of divided", why, _binary(left, ast.Mult, right)
        why = f"{COMES} with one fraction upside down."
        yield "a fraction is upside down", why, ast.BinOp(right, op, left)
    elif isinstance(op, ast.MatMult):
        why = f"{COMES} with a matrix product the other way round."
        yield "another order of a matrix product", why, ast.BinOp(right, op, left)
    elif isinstance(op, ast.Pow) and is_number(right):
        yield from _of_power(node)
    elif isinstance(op, (ast.BitOr, ast.BitAnd)):
        other = ast.BitAnd if isinstance(op, ast.BitOr) else ast.BitOr
        yield (
            "and instead of or",
            f"{COMES} with `&` and `|` exchanged.",
            _binary(left, other, right),
        )
        for one in (left, right):
            yield "a condition is missing", f"{COMES} with one of two conditions left out.", one
    if isinstance(op, (ast.Mult, ast.Div, ast.FloorDiv, ast.MatMult)):
        word = "division" if isinstance(op, (ast.Div, ast.FloorDiv)) else "factor"
        yield f"a {word} is missing", f"{COMES} without one {word}.", left
        why = f"{COMES} without one factor, or with a divisor alone."
        yield "a factor is missing", why, right


def _of_sum(node: ast.BinOp) -> Iterator[Found]:
    left, right, is_sum = node.left, node.right, isinstance(node.op, ast.Add)
    why = f"{COMES} with plus and minus exchanged in one place."
    yield "a sign is wrong", why, _binary(left, ast.Sub if is_sum else ast.Add, right)
    if not is_sum and is_number(left, 1):
        why = f"{COMES} without `1 -` in one place: you take a share where the rest belongs."
        yield "one minus is missing", why, right
    elif not is_sum:
        why = f"{COMES} with one difference the other way round."
        yield "a difference is the wrong way round", why, _binary(right, ast.Sub, left)
    for one in (left, right):
        why = f"{COMES} with one term left out of a sum or difference."
        yield "a term is missing", why, one


def _of_power(node: ast.BinOp) -> Iterator[Found]:
    left, power = node.left, node.right.value
    why = f"{COMES} without one of its powers; a power of 0.5 is a square root."
    yield _POWERS.get(power, "a power is missing"), why, left
    others = (
        (2, "a square instead of a root"),
        (0.5, "a root instead of a square"),
        (-power, "a fraction is upside down"),
        (2 * power, "squared once too often"),
    )
    for other, name in others:
        if other != power:
            why = f"{COMES} with another power in one place."
            yield name, why, _binary(left, ast.Pow, ast.Constant(other))
    if power == 2:
        why = f"{COMES} with an absolute value where a square belongs."
        size = ast.Call(ast.Name("abs", ast.Load()), [left], [])
        yield "the absolute value instead of the square", why, size


def _of_number(node: ast.Constant) -> Iterator[Found]:
    value = node.value
    why = f"{COMES} with one number one too large or too small: an index, a count or a constant."
    for other in (value + 1, value - 1):
        yield "a number is one off", why, ast.Constant(other)
    why = f"{COMES} with one constant doubled, halved, squared or ten times as large or small."
    for other in (2 * value, value / 2, value * value, 10 * value, value / 10):
        if other != value:
            yield "a constant is another", why, ast.Constant(other)
