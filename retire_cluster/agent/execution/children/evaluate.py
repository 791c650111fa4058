"""Evaluates one Python expression, in a process of its own with limits set by the one that started it.

What an expression may contain is checked before it runs: no statement, no name outside of NAMES, math and its
own variables, no attribute outside of the plain methods of the built-in types. That is hygiene; what holds is the
process: no environment, no descendant, little memory, few files, an end.

Reads {"expression", "variables"} from standard input; writes {"result"} or {"error", "traceback"} to descriptor 3.
"""

import ast
import json
import math
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

NAMES: dict[str, Any] = {
    function.__name__: function
    for function in (
        *(
            abs,
            all,
            any,
            ascii,
            bin,
            bool,
            bytes,
            chr,
            complex,
            dict,
            divmod,
            enumerate,
            filter,
            float,
            frozenset,
        ),
        *(
            hex,
            int,
            isinstance,
            iter,
            len,
            list,
            map,
            max,
            min,
            next,
            oct,
            ord,
            pow,
            range,
            repr,
            reversed,
            round,
        ),
        *(set, slice, sorted, str, sum, tuple, zip),
    )
}
_TYPES = (bool, bytes, complex, dict, float, frozenset, int, list, range, set, slice, str, tuple)
# str.format reads attributes that this check never sees.
ATTRIBUTES = frozenset(name for kind in _TYPES for name in dir(kind) if not name.startswith("_")) - {
    "format",
    "format_map",
}
MATH = frozenset(name for name in dir(math) if not name.startswith("_"))
MAX_TEXT = 4000


class Refused(Exception):
    """The expression contains what is not allowed; says what and what is."""


def check(tree: ast.Expression, variables: Mapping[str, Any]) -> None:
    """Raise Refused unless everything in the expression is allowed."""
    bound = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for name in (*bound, *variables):
        if name.startswith("__") or not name.isidentifier():
            raise Refused(f"{name!r} cannot be the name of a variable")
    known = bound | set(variables) | set(NAMES) | {"math"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in known:
            raise Refused(f"the name {node.id!r} is not known here; known are {', '.join(sorted(known))}")
        if isinstance(node, ast.Attribute):
            _check_attribute(node)
        if isinstance(node, (ast.Await, ast.Yield, ast.YieldFrom)):
            raise Refused("an expression cannot await or yield")


def _check_attribute(node: ast.Attribute) -> None:
    is_math = isinstance(node.value, ast.Name) and node.value.id == "math"
    allowed = MATH if is_math else ATTRIBUTES
    if node.attr not in allowed:
        raise Refused(
            f"the attribute {node.attr!r} is not allowed: only methods of Python's plain types, and math"
        )


def evaluate(expression: str, variables: Mapping[str, Any]) -> Any:
    """The value of the expression. Raises Refused, or whatever the expression raises."""
    try:
        tree = ast.parse(expression.strip(), "expression", "eval")
    except SyntaxError as error:
        where = f" at line {error.lineno}, column {error.offset}" if error.lineno else ""
        raise Refused(f"not a Python expression: {error.msg}{where}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise Refused(f"not a Python expression: {error or type(error).__name__}") from None
    check(tree, variables)
    space = {"__builtins__": {}, "math": math, **NAMES, **variables}
    return eval(compile(tree, "expression", "eval"), space)  # noqa: S307 - checked, and in a process made for it


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """What to report for a request."""
    try:
        value = evaluate(request["expression"], request["variables"])
    except Refused as error:
        return {"error": f"payload.expression: {error}"}
    except MemoryError:
        return {"error": "the expression needs more memory than a python_eval may use"}
    except RecursionError:
        return {"error": "the expression nests too deeply"}
    except BaseException as error:
        return {"error": _cut(_in_words(error)), "traceback": _trace(error)}
    try:
        return {"result": json.loads(json.dumps(value, allow_nan=False))}
    except (TypeError, ValueError, RecursionError) as error:
        return {
            "error": _cut(f"the result cannot be told as JSON: {error}; give numbers, text, lists or dicts")
        }
    except MemoryError:
        return {"error": "the result is too large"}


def _in_words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _trace(error: BaseException) -> str:
    """Only the frames of the expression: ours would not help its author."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "expression"]
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames), _cut(_in_words(error))]
    return "".join(lines)


def _cut(text: str) -> str:
    return text[:MAX_TEXT]


def main() -> None:
    text = json.dumps(answer(json.load(sys.stdin)))
    with os.fdopen(3, "w", encoding="utf-8") as report:
        report.write(text + "\n")


if __name__ == "__main__":
    main()
