"""Every example in the README and in docs/ does what it shows, and every block of the pages is tested."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.documentation import Reader, blocks, commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands that are not run, and why.
NOT_RUN = {
    r"-m venv |\bpip install ": "these tests run in an environment that has the packages",
    r"^source ": "it changes the shell that it is typed into",
    r"\bdb1?\.internal": "the reader's own databases; test_scaling.py runs what needs no certificates",
    r"^OTEL_": "the reader's own collector",
    r"^sudo ": "a service on the reader's machine; test_deploy.py runs the commands of the units",
}
# Blocks that are no examples to run, and the tests that check them.
TESTED_ELSEWHERE = {
    ("architecture.md", "text"): "test_folder_tree_is_current",
    ("cli.md", "console"): "test_cli_reference.py; these are usage lines",
    ("http.md", "json"): "test_http_guide.py; a healthy server does not answer so",
    ("one-deposit.md", "python"): "test_one_deposit.py; these are parts of the source",
}
WITHOUT_EXAMPLES = {"cli.md", "one-deposit.md"}
PASSED_OVER = re.compile("|".join(NOT_RUN))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in WITHOUT_EXAMPLES], ids=lambda page: page.name
)
def test_examples_do_what_they_show(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader(tmp_path, monkeypatch) as reader:
        reader.follow(page, PASSED_OVER)


def test_examples_work_without_curl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader(tmp_path, monkeypatch, without_curl=True) as reader:
        reader.follow(ROOT / "docs" / "http.md", PASSED_OVER)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_tested(page: Path) -> None:
    found = blocks(page)
    assert len(re.findall("^ *(?:```|~~~)", page.read_text(), re.MULTILINE)) == 2 * len(found)
    for block in found:
        is_example = block.language == "python" or (block.language in ("console", "sh") and any(commands(block)))
        is_run = is_example and page.name not in WITHOUT_EXAMPLES
        assert is_run or (page.name, block.language) in TESTED_ELSEWHERE, f"line {block.line}"


def test_every_exception_is_used() -> None:
    typed = [command.text for page in PAGES for block in blocks(page) for command in commands(block)]
    assert [each for each in NOT_RUN if not any(re.search(each, text) for text in typed)] == []
    assert set(TESTED_ELSEWHERE) <= {(page.name, block.language) for page in PAGES for block in blocks(page)}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for path, heading in re.findall(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not heading or heading in headings(target), f"{path}#{heading}"


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub derives from the headings of a page."""
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    }


def test_picture_names_existing_functions_and_modules() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "deposit.svg")  # noqa: S314 - our own
    words = " ".join(text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text"))
    source = "".join(module.read_text() for module in (ROOT / "src").rglob("*.py"))
    functions, modules = re.findall(r"(\w+)\(", words), re.findall(r"\S+\.py", words)
    assert functions
    assert modules
    assert [name for name in functions if f"def {name}(" not in source] == []
    assert [name for name in modules if not (ROOT / "src" / "atm_adapters" / name).exists()] == []


def test_folder_tree_is_current() -> None:
    (tree,) = [block.text for block in blocks(ROOT / "docs/architecture.md") if block.language == "text"]
    shown, folders = set(), [ROOT]
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        folders = folders[: indent // 2 + 1]
        names = line.strip().partition("   ")[0].split("  ")
        shown |= {folders[-1] / name for name in names}
        folders.append(folders[-1] / names[0])
    core, adapters = ROOT / "src/atm_core", ROOT / "src/atm_adapters"
    http_and_cli = [adapters / "front_ends/http", adapters / "front_ends/cli"]
    present = {path for folder in (core, adapters) for path in folder.iterdir() if not path.name.startswith("__")}
    assert shown == {core, adapters, *http_and_cli} | {path for path in present if path.name != "py.typed"}


def test_readme_links_every_page_and_is_short() -> None:
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name})" not in text] == []
    assert len(text.splitlines()) < 120
