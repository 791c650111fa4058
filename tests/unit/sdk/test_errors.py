"""One exception for each error code, and each says what to do next."""

import pytest

from retire_cluster.api.errors import ErrorCode
from retire_cluster.sdk import errors
from retire_cluster.sdk.errors import ApiError, SdkError


def every(kind: type[SdkError]) -> list[type[SdkError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in every(below))]


def test_every_code_of_the_api_has_an_exception_and_no_exception_is_of_another() -> None:
    assert errors.BY_CODE.keys() == set(ErrorCode)


def test_no_two_exceptions_share_a_code() -> None:
    assert len(errors.kinds()) == len(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_code_is_raised_as_its_exception(code: ErrorCode) -> None:
    found = errors.from_body(400, {"error_code": code.value, "message": "no"})
    assert type(found) is errors.BY_CODE[code]
    assert found.code == code


@pytest.mark.parametrize("kind", every(SdkError))
def test_every_exception_says_what_to_do_next(kind: type[SdkError]) -> None:
    assert kind.advice
    if kind not in (ApiError, SdkError):
        assert "advice" in vars(kind), "of its own"


@pytest.mark.parametrize("body", [{}, {"message": None, "error_details": [1], "request_id": 3}])
def test_an_error_without_words_is_one(body: dict[str, object]) -> None:
    found = errors.from_body(500, body)
    assert "the server answered 500" in str(found)
    assert (found.field, found.reason) == ("", "")
