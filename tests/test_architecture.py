"""The shape of the house: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src"


def imports(module: Path) -> set[str]:
    """The full names of all modules that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("module", sorted((SOURCES / "atm_core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_imports_the_standard_library_only(module: Path) -> None:
    foreign = {name for name in imports(module) if name.partition(".")[0] not in {*sys.stdlib_module_names, "atm_core"}}
    assert foreign == set()


@pytest.mark.parametrize("module", sorted((SOURCES / "atm_core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_does_no_input_or_output(module: Path) -> None:
    assert imports(module) & {"os", "io", "pathlib", "socket", "sqlite3", "logging", "threading", "asyncio"} == set()


def test_only_stores_names_concrete_repositories() -> None:
    naming = {
        str(module.relative_to(SOURCES))
        for module in SOURCES.rglob("*.py")
        if any(name.startswith("atm_adapters.repositories.") for name in imports(module))
    }
    assert naming == {"atm_adapters/stores.py"}
