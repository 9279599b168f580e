"""The core is pure. The other import rules are import-linter's (``nox -s lint``)."""

import ast
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "src" / "atm_core"
WITH_EFFECTS = {
    "asyncio", "io", "logging", "os", "pathlib", "random", "secrets", "socket", "sqlite3", "subprocess",
    "threading", "time", "uuid",
}  # fmt: skip
PURE = {*sys.stdlib_module_names, "atm_core"} - WITH_EFFECTS


@pytest.mark.parametrize("module", sorted(CORE.rglob("*.py")), ids=lambda path: path.name)
def test_core_imports_pure_standard_library_only(module: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported <= PURE


@pytest.mark.parametrize("module", sorted(CORE.rglob("*.py")), ids=lambda path: path.name)
def test_core_reads_no_clock(module: Path) -> None:
    """It may name ``datetime`` as a type."""
    attributes = {node.attr for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Attribute)}
    assert attributes.isdisjoint({"now", "utcnow", "today"})
