"""Every example in the README and in docs/ does what it shows, and no block is there that is not run."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.documentation import Reader, blocks, commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands that are not run, and why.
NOT_RUN = {
    r"-m venv |\bpip install ": "environment and packages are what these tests run in",
    r"^source ": "it changes the shell that it is typed into",
    r"\bdb1?\.internal": "databases of somebody's own",
    r"^OTEL_": "a collector of somebody's own",
    r"^sqlite3 ": "few machines have that program; test_operating.py runs the statement",
}
# Blocks that are no examples to follow, and which test holds them.
HELD_ELSEWHERE = {
    ("cli.md", "console"): "test_cli_reference.py; they are usage lines",
    ("http.md", "json"): "test_http_guide.py; a healthy server does not answer so",
}
PASSED_OVER = re.compile("|".join(NOT_RUN))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_every_example_on_the_page_comes_out_as_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Reader(tmp_path, monkeypatch) as reader:
        reader.follow(page, PASSED_OVER)


def test_the_examples_come_out_as_shown_on_a_machine_without_curl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Reader(tmp_path, monkeypatch, without_curl=True) as reader:
        reader.follow(ROOT / "docs" / "http.md", PASSED_OVER)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_on_the_page_is_of_a_kind_that_is_run(page: Path) -> None:
    found = blocks(page)
    assert len(re.findall("^ *(?:```|~~~)", page.read_text(), re.MULTILINE)) == 2 * len(found)
    for block in found:
        is_run = block.language == "python" or (block.language in ("console", "sh") and any(commands(block)))
        assert is_run or (page.name, block.language) in HELD_ELSEWHERE, f"line {block.line}"


def test_every_exception_is_made_use_of() -> None:
    typed = [command.text for page in PAGES for block in blocks(page) for command in commands(block)]
    assert [each for each in NOT_RUN if not any(re.search(each, text) for text in typed)] == []
    assert set(HELD_ELSEWHERE) <= {(page.name, block.language) for page in PAGES for block in blocks(page)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_of_the_page_within_the_repository_leads_somewhere(page: Path) -> None:
    for path, heading in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in headings(target), f"{path}#{heading}"


def headings(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes addresses of them."""
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    }


def test_the_picture_names_functions_and_modules_that_there_are() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "deposit.svg")  # noqa: S314 - our own
    words = " ".join(text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    source = "".join(module.read_text() for module in (ROOT / "src").rglob("*.py"))
    functions, modules = re.findall(r"(\w+)\(", words), re.findall(r"\S+\.py", words)
    assert functions
    assert [name for name in functions if f"def {name}(" not in source] == []
    assert [name for name in modules if not (ROOT / "src" / "atm_adapters" / name).exists()] == []


def test_the_readme_links_every_page_and_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name})" not in text] == []
    assert len(text.splitlines()) < 120
