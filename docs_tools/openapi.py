"""The page of the REST API, from its OpenAPI document."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import yaml

INTRODUCTION = """\
# REST API

Every endpoint with its parameters, bodies and answers, made from [openapi.yaml](openapi.yaml) when these pages
are built. What holds for all of them is in [requests](requests.md), the error codes in [errors](errors.md), who
may call what in [keys](keys.md). A running server shows the same at `/api/docs`, where it can be tried.

Every answer is an envelope; the fields below are those in `data`.
"""
EVERYWHERE = frozenset({"X-Request-ID"})  # parameters that requests.md describes once
METHODS = ("get", "post", "put", "delete")
DEEPEST = 3  # levels of fields that a table shows; the document has them all

Node = Mapping[str, Any]


def page(text: str) -> str:
    """Markdown of the document."""
    document = _with_own_descriptions(yaml.safe_load(text))
    found = sorted(operations(document), key=lambda item: item[2]["tags"][0])
    parts = [INTRODUCTION]
    for tag, group in groupby(found, key=lambda item: item[2]["tags"][0]):
        parts.append(f"\n## {tag}\n")
        parts += [_section(document, *item) for item in group]
    return "".join(parts)


def _with_own_descriptions(document: Any) -> Node:
    """The document without descriptions of a whole group of endpoints: they say nothing about one of them."""
    every = [operation for _, _, operation in operations(document)]
    uses = Counter(operation.get("description") for operation in every)
    for operation in every:
        if uses[operation.get("description")] > 1:
            operation["description"] = ""
    found: Node = document
    return found


def operations(document: Node) -> list[tuple[str, str, Any]]:
    """Method, path and description of each."""
    return [
        (method.upper(), path, methods[method])
        for path, methods in document["paths"].items()
        for method in METHODS
        if method in methods
    ]


def _section(document: Node, method: str, path: str, operation: Node) -> str:
    lines = [
        "",
        f"### {method} {path}",
        "",
        f"**{operation['summary']}.** {_flowing(operation)}".rstrip(),
        "",
    ]
    open_to_all = {} in operation["security"]
    lines += ["Open, unless the server runs with `--auth all`." if open_to_all else "Needs a key.", ""]
    parameters = [item for item in operation.get("parameters", ()) if item["name"] not in EVERYWHERE]
    if parameters:
        lines += ["| Parameter | In | Form | Meaning |", "|---|---|---|---|"]
        lines += [_parameter(item) for item in parameters]
        lines.append("")
    if "requestBody" in operation:
        lines += _table("Body", document, _content(operation["requestBody"]), marked=True)
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            lines += _table(f"Answer {status}", document, _data(document, _content(answer)))
    refusals = [status for status in operation["responses"] if not status.startswith("2")]
    lines += [f"Refused with {', '.join(refusals)}.", ""]
    return "\n".join(lines)


def _flowing(node: Node) -> str:
    """The description on one line, without the list of choices that stands beside every enumeration."""
    text = "\n".join(
        line for line in str(node.get("description", "")).splitlines() if not line.startswith("* `")
    )
    return " ".join(text.split()).replace("|", "\\|")


def _parameter(item: Node) -> str:
    name = f"`{item['name']}`" + (", required" if item.get("required") else "")
    return f"| {name} | {item['in']} | {form(item.get('schema', {}))} | {_flowing(item)} |"


def _content(node: Node) -> Node:
    """The schema of a JSON body; empty where there is none."""
    found: Node = node.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _resolved(document: Node, schema: Node) -> Node:
    """The schema that a reference leads to, with the description that stands beside it."""
    wrapped = schema.get("allOf") or [item for item in schema.get("oneOf", ()) if "$ref" in item]
    if "$ref" not in schema and len(wrapped) == 1:
        return {**_resolved(document, wrapped[0]), **_described(schema)}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {**_resolved(document, document["components"]["schemas"][name]), **_described(schema)}
    return schema


def _described(schema: Node) -> Node:
    return {"description": schema["description"]} if "description" in schema else {}


def _data(document: Node, envelope: Node) -> Node:
    """What stands in the envelope."""
    properties = _resolved(document, envelope).get("properties", {})
    found: Node = properties.get("data", {})
    return found


def _table(title: str, document: Node, schema: Node, *, marked: bool = False) -> list[str]:
    """A row for each field; `marked`: required ones say so, which tells nothing about an answer's."""
    resolved = _resolved(document, schema)
    rows = list(_fields(document, schema))
    if not rows:
        return [f"{title}: {form(resolved)}.", ""] if resolved else []
    required = {f"| `{name}` " for name in resolved.get("required", ())} if marked else set()
    for start in required:
        rows = [row.replace(start, f"{start.rstrip()}, required ") for row in rows]
    of_each = ", a list of" if resolved.get("type") == "array" else ""
    return [f"{title}{of_each}:", "", "| Field | Form | Meaning |", "|---|---|---|", *rows, ""]


def _fields(document: Node, schema: Node, prefix: str = "", depth: int = 1) -> Iterator[str]:
    resolved = _resolved(document, schema)
    if resolved.get("type") == "array":
        resolved = _resolved(document, resolved["items"])
    for name, field in resolved.get("properties", {}).items():
        inner = _resolved(document, field)
        yield f"| `{prefix}{name}` | {form(inner)} | {_flowing(inner)} |"
        if depth < DEEPEST:
            mark = "[]." if inner.get("type") == "array" else "."
            yield from _fields(document, inner, f"{prefix}{name}{mark}", depth + 1)


def form(schema: Node) -> str:
    """Type, choices, bounds and default in words."""
    kinds = schema.get("type", "object" if "properties" in schema else "any JSON")
    words = " or ".join(dict.fromkeys(kinds)) if isinstance(kinds, list) else str(kinds)
    if schema.get("enum"):
        words = ", ".join(f"`{item}`" for item in schema["enum"] if item is not None)
    if "format" in schema:
        words += f" ({schema['format']})"
    words += "".join(f", {word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema)
    if schema.get("default") is not None:
        words += f", default `{schema['default']}`"
    return words.replace("|", "\\|")


_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "up to",
    "minLength": "at least characters:",
    "maxLength": "at most characters:",
    "maxItems": "at most entries:",
}
