"""Expressions in a spec: arithmetic and comparisons on fields of a machine and on results, by a small grammar.

    value   = number | 'text' | true | false | name | name[trace] | (value) | function(value, ...)
    value   = -value | value + - * / // % ** value | value < <= > >= == != value | not value | value and or value
    value   = value if value else value
    name    = a dotted path, such as engines.backward.rows

Python's parser reads the text, and only these nodes of its tree are taken; nothing is ever evaluated as Python.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from h2sim.errors import SweepError, at

MOST_TEXT = 1000  # characters
MOST_DEPTH = 40
MOST_EXPONENT = 256
MOST_SIZE = 1e30  # of any number on the way
LEAST_EXCESS = 1e-9  # of `<` between equal numbers
Value = int | float | str | bool
Names = Callable[[str], Any]  # the value of a name; raises KeyError where there is none

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_SIGNS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "=="}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "log2": math.log2,
    "sqrt": math.sqrt,
}
_LITERALS = {"true": True, "false": False}


@dataclass(frozen=True)
class Expression:
    """A parsed expression. names: the fields and results that it mentions, in the order of their first mention."""

    text: str
    names: tuple[str, ...]
    tree: ast.expr

    def __str__(self) -> str:
        return self.text

    def value(self, names: Names) -> Any:
        """What it comes to. Raises SweepError, one line, for what has no value: x / 0, text + 1, a missing name."""
        try:
            return _value(self.tree, self.text, names)
        except KeyError as error:
            raise SweepError(f"{self.text}: no value for {error.args[0]}") from None
        except (ArithmeticError, ValueError) as error:
            raise SweepError(f"{self.text}: {error}") from None
        except TypeError:
            raise SweepError(f"{self.text}: text and numbers do not go together here") from None

    def bound(self) -> tuple[str, str, float] | None:
        """(name, comparison, number) of a plain bound such as `area_mm2 < 120`; None for anything else."""
        match self.tree:
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _SIGNS:
                sign = _SIGNS[type(op)]
                if isinstance(left, ast.Constant) and isinstance(right, ast.Name | ast.Attribute):
                    left, right, sign = right, left, _TURNED[sign]
                if isinstance(left, ast.Name | ast.Attribute) and isinstance(right, ast.Constant):
                    number = right.value
                    if isinstance(number, int | float) and not isinstance(number, bool):
                        return _dotted(left), sign, float(number)
        return None

    def holds(self, names: Names) -> bool:
        """Whether a constraint is met. Raises SweepError as `value` does."""
        return bool(self.value(names))

    def excess(self, names: Names) -> float:
        """By how much a constraint is missed; 0 where it is met, above 0 where not. Raises SweepError as `value` does.

        Of a comparison of numbers the distance of its sides, relative to the right one, or the left one where that is
        the number that is written down; of `and` the first that is missed, of `or` the nearest; 1 of anything else.
        """
        if self.holds(names):
            return 0.0
        return _excess(self.tree, lambda node: Expression(self.text, self.names, node).value(names))


def parse_expression(text: object, where: str) -> Expression:
    """The expression of a text. Raises SweepError, one line that begins with `where`, for anything else."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise SweepError(f"{where}: expected an expression; got {str(text)[:60]!r}")
    text = str(text).strip()
    if not text or len(text) > MOST_TEXT or not text.isprintable():
        raise SweepError(f"{where}: expected an expression of 1 to {MOST_TEXT} characters; got {text[:60]!r}")
    try:
        tree = ast.parse(text, mode="eval").body
        names = tuple(dict.fromkeys(_names(tree, text, 0)))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        what = error.msg if isinstance(error, SyntaxError) else str(error) or "too deep"
        raise SweepError(
            at(where, "expression", "arithmetic and comparisons of fields", f"{text[:80]!r} ({what})")
        ) from None
    return Expression(text, names, tree)


def _names(node: ast.expr, text: str, depth: int) -> Iterator[str]:
    """The names in a tree. Raises ValueError for a node that is not of the grammar."""
    if depth > MOST_DEPTH:
        raise ValueError("too deep")
    if isinstance(node, ast.Name | ast.Attribute):
        name = _dotted(node)
        if name not in _LITERALS:
            yield name
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        yield _of_trace(node, text)
    else:
        for each in _inside(node):
            yield from _names(each, text, depth + 1)


def _inside(node: ast.expr) -> list[ast.expr]:
    """The expressions in an operation; none in a number or a text. Raises ValueError for what is no operation here."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            return []
        case ast.Call(func=ast.Name(id=function), args=args, keywords=[]):
            _check_call(function, len(args))
            return args
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            return [operand]
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
            return [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            return [left, *others]
        case ast.BoolOp(values=values):
            return values
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return [test, body, orelse]
    raise ValueError(f"{type(node).__name__} is not part of it")


def _check_call(function: str, count: int) -> None:
    if function not in FUNCTIONS:
        raise ValueError(f"no function {function}; known: {', '.join(FUNCTIONS)}")
    one = function not in ("min", "max")
    if (count != 1) if one else (count < 2):
        raise ValueError(f"{function} takes {'one value' if one else 'two values or more'}")


def _dotted(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=attr):
            return f"{_dotted(inner)}.{attr}"
    raise ValueError(f"{type(node).__name__} is not part of it")


def _of_trace(node: ast.Subscript, text: str) -> str:
    """`seconds[mnist-table34]`, as it stands in the text."""
    return ast.get_source_segment(text, node) or ""


def _excess(node: ast.expr, value: Callable[[ast.expr], Any]) -> float:
    """Of a part of a constraint that is not met; what `and` and `or` would not look at, it does not either."""
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return _excess(next(each for each in values if not value(each)), value)
        case ast.BoolOp(op=ast.Or(), values=values):
            return min(_excess(each, value) for each in values)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _SIGNS:
            sides = value(left), value(right)
            if not any(isinstance(side, str) for side in sides):
                wanted = sides[0] if isinstance(left, ast.Constant) else sides[1]
                return max(float(abs(sides[0] - sides[1]) / (abs(wanted) or 1.0)), LEAST_EXCESS)
    return 1.0


def _value(node: ast.expr, text: str, names: Names) -> Any:
    """What a part comes to; parse_expression has looked at all of them."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name | ast.Attribute):
        name = _dotted(node)
        return _LITERALS[name] if name in _LITERALS else names(name)
    if isinstance(node, ast.Subscript):
        return names(_of_trace(node, text))
    return _operation(node, lambda part: _value(part, text, names))


def _operation(node: ast.expr, value: Callable[[ast.expr], Any]) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=function), args=args):
            return _sized(FUNCTIONS[function](*map(value, args)))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not value(operand)
        case ast.UnaryOp(op=op, operand=operand):
            return -value(operand) if isinstance(op, ast.USub) else +value(operand)
        case ast.BinOp(op=binary, left=left, right=right):
            return _binary(binary, value(left), value(right))
        case ast.Compare():
            return _compared(node, value)
        case ast.BoolOp(op=either, values=values):
            wanted = isinstance(either, ast.Or)
            return next((wanted for each in values if bool(value(each)) is wanted), not wanted)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return value(body if value(test) else orelse)
    raise ValueError(f"{type(node).__name__} is not part of it")


def _compared(node: ast.Compare, value: Callable[[ast.expr], Any]) -> bool:
    """`a < b <= c`, as far as it has to be looked at."""
    before = value(node.left)
    for sign, other in zip(node.ops, node.comparators, strict=True):
        after = value(other)
        if not _COMPARE[type(sign)](before, after):
            return False
        before = after
    return True


def _binary(op: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str):
        raise TypeError
    if isinstance(op, ast.Pow) and abs(right) > MOST_EXPONENT:
        raise ValueError(f"expected an exponent of at most {MOST_EXPONENT}; got {right}")
    return _sized(_BINARY[type(op)](left, right))


def _sized(value: Any) -> Any:
    if isinstance(value, complex) or (isinstance(value, int | float) and not abs(value) <= MOST_SIZE):
        raise ValueError("the number is too large, or none")
    return value
