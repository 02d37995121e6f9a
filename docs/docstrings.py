"""What the generator of the method cards reads from docstrings, fields and annotations."""

import ast
import inspect
import re
import textwrap
from typing import Any, Literal, get_args, get_origin

from wiry.core.signature import nested_kind

LABELS = {
    "Use": "When to use it",
    "Source": "Source",
    "Differs": "Where it differs",
    "Published": "Published numbers",
}


def capital(text: str) -> str:
    """Begin a text with a capital, if it begins with a word."""
    return text[:1].upper() + text[1:]


def sections(text: str) -> dict[str, str]:
    """Split a docstring at its labels; what comes before the first one has the label ""."""
    text = re.split(r"^(?:Args|Returns|Raises|Attributes):$", text, flags=re.MULTILINE)[0]
    found: dict[str, str] = {}
    pieces = re.split(rf"(?:^|(?<=\s))({'|'.join(LABELS)}):\s", text)
    for label, piece in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        paragraphs = [" ".join(p.split()) for p in piece.strip().split("\n\n")]
        content = "\n\n".join(p for p in paragraphs if p)
        if content:
            found[label] = f"{found[label]}\n\n{content}" if label in found else content
    return found


def field_docs(factory: Any) -> dict[str, str]:
    """Return what is said of a component's fields.

    Of a class: the docstrings below them, those of its bases included. Of a function: its `Args:`.
    """
    if not inspect.isclass(factory):
        return argument_docs(inspect.getdoc(factory) or "")
    found: dict[str, str] = {}
    for base in reversed(inspect.getmro(factory)):
        if not base.__module__.startswith("wiry."):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(node, ast.ClassDef)
        for statement, after in zip(node.body, node.body[1:], strict=False):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(after, ast.Expr):
                continue
            if isinstance(after.value, ast.Constant) and isinstance(statement.target, ast.Name):
                found[statement.target.id] = " ".join(str(after.value.value).split())
    return found


def argument_docs(text: str) -> dict[str, str]:
    """Return the entries of a docstring's `Args:`."""
    block = re.search(r"^Args:\n((?:    .*\n?|\n)*)", text, flags=re.MULTILINE)
    entries = re.findall(
        r"^    (\w+): ((?:.*\n?)(?:      .*\n?)*)", block[1] if block else "", re.M
    )
    return {name: capital(" ".join(words.split())) for name, words in entries}


def type_text(annotation: Any) -> str:
    """Write a field's type the way a reader of recipes thinks of it."""
    if (kind := nested_kind(annotation)) is not None:
        return kind
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__name__ if plain else str(annotation).replace("None", "none")
