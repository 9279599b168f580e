"""One table of errors, complete and consistent."""

from atm_adapters.error_catalogue import CATALOGUE
from atm_core import AtmError


def _all_errors(error: type[AtmError] = AtmError) -> set[type[AtmError]]:
    return {error, *(each for subclass in error.__subclasses__() for each in _all_errors(subclass))}


def test_every_error_is_in_the_table_and_its_code_names_it_alone() -> None:
    assert set(CATALOGUE) == _all_errors() - {AtmError}
    assert len({error.code for error in CATALOGUE}) == len(CATALOGUE)


def test_each_error_has_a_title_and_what_is_unavailable_is_503_and_exit_code_4() -> None:
    for error, report in CATALOGUE.items():
        assert report.exit_code in (2, 3, 4), error
        assert 400 <= report.status <= 503, error
        assert report.title
        assert (report.exit_code == 4) == (report.status == 503), error
