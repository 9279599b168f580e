"""Every block of docs/one-deposit.md is a function of the source file that is linked before it."""

import ast
import re
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parents[2] / "docs" / "one-deposit.md"
LINK_OR_BLOCK = re.compile(r"\]\((\S+\.py)\)|^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def functions_without_docstrings(source: str) -> list[str]:
    """Return the text of every function, with its decorators and without its docstring."""
    lines = source.splitlines(keepends=True)
    texts = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body = node.body[1 if ast.get_docstring(node) is not None else 0 :] or node.body
            signature_end = node.body[0].lineno - 1
            texts.append(
                dedent("".join(lines[first - 1 : signature_end] + lines[body[0].lineno - 1 : node.end_lineno]))
            )
    return texts


def test_every_block_is_a_function_of_the_linked_file() -> None:
    found = LINK_OR_BLOCK.findall(PAGE.read_text())
    assert sum(bool(block) for _, block in found) >= 5
    path = ""
    for link, block in found:
        path = link or path
        if block:
            assert block in functions_without_docstrings((PAGE.parent / path).read_text()), path


def test_code_is_short_enough_to_read() -> None:
    lines = [line for _, block in LINK_OR_BLOCK.findall(PAGE.read_text()) for line in block.splitlines()]
    assert len(lines) < 90
