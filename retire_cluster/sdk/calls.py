"""Calls over HTTP: the envelope taken off, errors as exceptions, tried again where that cannot do harm."""

import logging
import math
import ssl
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from os import PathLike, fspath
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from retire_cluster import __version__
from retire_cluster.sdk import errors
from retire_cluster.sdk.decoding import Mismatch, Model
from retire_cluster.sdk.errors import ConnectionFailed, InvalidRequest, SdkError, Timeout, UnexpectedAnswer
from retire_cluster.sdk.pausing import Clock, Retries, retry_after

log = logging.getLogger("retire_cluster.sdk")
M = TypeVar("M", bound=Model)
API_PATH = "/api/v1"
LONGEST_CONNECT_S = 10.0  # who does not take a connection within that is not there; tries multiply it
LARGEST_ANSWER = 64 * 1024 * 1024  # bytes, unpacked; a full page of output has 25 million at worst
LONGEST_OUTAGE_S = (
    600.0  # a restart, an update, a machine that boots; who waits with a deadline has that instead
)
# Of the answer as it travelled; what is kept of it is unpacked and whole.
OF_THE_WAY = (b"content-encoding", b"content-length", b"transfer-encoding")
NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
FEW_CALLS_LEFT = 20  # of a rate limit
SPARING_PAUSE_S = 3.0  # at most: so the last 20 calls of a minute last until its first ones count no more
TURNED_AWAY = frozenset({429, 503})  # the server says that it did not do it
IN_BETWEEN = frozenset({502, 504})  # a proxy says that it does not know
# What a proxy without our envelope means.
BY_STATUS: Mapping[int, type[errors.ApiError]] = {
    413: errors.PayloadTooLarge,
    429: errors.RateLimited,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
}
BAD_CERTIFICATE = "pass the authority's certificate as ca=, and use the name that the certificate is for"


@dataclass(frozen=True)
class Call:
    """A request. `repeatable`: sending it twice does what sending it once does."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    wait_s: float = 0.0  # the server may take so long on purpose


def get(path: str, *, wait_s: float = 0.0, **params: Any) -> Call:
    """A read; parameters that are None are left out."""
    return Call("GET", path, params, repeatable=True, wait_s=wait_s)


def segment(identifier: str) -> str:
    """An id as one segment of a path. Raises InvalidRequest for what would be another path."""
    try:
        found = quote(identifier, safe="")
    except UnicodeEncodeError:
        found = ""
    if found in ("", ".", ".."):
        raise InvalidRequest(f"{identifier!r} is no id")
    return found


@dataclass(frozen=True)
class Answer:
    """A success: the envelope's data and pagination, and the headers."""

    data: Any
    pagination: Mapping[str, Any]
    headers: httpx.Headers

    def to(self, model: type[M]) -> M:
        """The data as a model. Raises UnexpectedAnswer."""
        return read(model, self.data)

    def members(self) -> dict[str, Any]:
        """The data as an object. Raises UnexpectedAnswer."""
        if not isinstance(self.data, dict):
            raise UnexpectedAnswer("the answer is no object")
        return self.data

    def member(self, name: str) -> Any:
        """A member of the data. Raises UnexpectedAnswer."""
        if name not in self.members():
            raise UnexpectedAnswer(f"the answer comes without {name!r}")
        return self.data[name]


def read(model: type[M], data: Any) -> M:
    """The model of a JSON object. Raises UnexpectedAnswer."""
    try:
        return model.of(data)
    except Mismatch as error:
        raise UnexpectedAnswer(f"the answer is not as this SDK knows it: {error}") from None


class Calls:
    """A connection pool and how to use it. Thread safe."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        timeout: float,
        retries: Retries,
        verify: bool | ssl.SSLContext,
        ca: str | PathLike[str] | None,
        transport: httpx.BaseTransport | None,
        clock: Clock,
    ) -> None:
        self.base_url = _api_of(base_url)
        self.root = self.base_url.removesuffix(API_PATH)
        self.timeout = timeout
        self.retries = retries
        self.clock = clock
        self.tls = _tls(verify, ca)
        self.calls_left: int | None = (
            None  # of the server's rate limit; None: there is none, or nobody asked yet
        )
        self._more_in_s = math.inf
        headers = {"Content-Type": "application/json", "User-Agent": f"retire-cluster-sdk/{__version__}"}
        if api_key:
            headers["X-API-Key"] = _checked_key(api_key)
        self.reached = False  # whether this API ever answered here
        # As many connections as there are threads: of a hundred that wait, none must keep another from its turn.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self._http = httpx.Client(headers=headers, verify=self.tls, transport=transport, limits=limits)
        weakref.finalize(
            self, self._http.close
        )  # for whoever never closes it, as the specification's snippet

    @property
    def headers(self) -> httpx.Headers:
        """Sent with every call."""
        return self._http.headers

    def close(self) -> None:
        self._http.close()

    def spare(self, longest_s: float = math.inf) -> None:
        """Pause before one of many calls, when few are left: to be refused takes longer."""
        if self.calls_left is not None and self.calls_left < FEW_CALLS_LEFT:
            # What is left lasts until there is more.
            pause = self._more_in_s / max(1, self.calls_left)
            self.clock.sleep(min(pause, SPARING_PAUSE_S, max(0.0, longest_s)))

    def answer(self, call: Call, *, until: float | None = None, patient: bool = False) -> Answer:
        """The data of a success. Raises SdkError; tries no longer than until the clock shows `until`."""
        response = self.send(call, until=until, patient=patient)
        body = envelope(response)
        if "data" not in body:
            raise UnexpectedAnswer(f"{response.url} answers without data")
        pagination = body.get("pagination") or {}
        if not isinstance(pagination, dict):
            raise UnexpectedAnswer(f"{response.url} answers with a pagination that is no object")
        return Answer(body["data"], pagination, response.headers)

    def send(
        self, call: Call, *, until: float | None = None, as_is: bool = False, patient: bool = False
    ) -> httpx.Response:
        """The response; errors are raised, or with `as_is` handed back at once as every other answer.

        With `patient` an outage of a server that was there is waited out: until `until`, or for ten minutes.
        """
        tries, outage = 0, _Outage(self, until) if patient else None
        while True:
            tries += 1
            try:
                response = self._once(call)
            except httpx.RequestError as error:
                cause: Exception | None = error
                failure = self._failed(error)
                again = _may_repeat(call, error)
                wanted = None
            else:
                self.reached = self.reached or not response.is_server_error
                if response.is_redirect:
                    # Never followed: the key must not go to somebody else.
                    to = response.headers.get("Location", "another address")
                    raise UnexpectedAnswer(f"{response.url} redirects to {to!r}")
                if as_is or not response.is_error:
                    if outage:
                        outage.ends()
                    return response
                refusal = refused(response)
                cause, failure, wanted = None, refusal, refusal.retry_after
                status = response.status_code
                again = status in TURNED_AWAY or (call.repeatable and status in IN_BETWEEN)
            retries = outage.retries(tries, failure) if outage and again else self.retries
            pause = retries.pause(tries, wanted) if again else None
            if pause is None or (until is not None and self.clock.now() + pause >= until):
                raise failure from cause
            self.clock.sleep(pause)

    def _once(self, call: Call) -> httpx.Response:
        timeout = httpx.Timeout(
            self.timeout, connect=min(self.timeout, LONGEST_CONNECT_S), read=self.timeout + call.wait_s
        )
        url = call.path if "://" in call.path else f"{self.base_url}{call.path}"
        params = {name: _text(value) for name, value in call.params.items() if value is not None}
        try:
            request = self._http.build_request(
                call.method, url, params=params, json=call.body, headers=dict(call.headers), timeout=timeout
            )
        except (ValueError, RecursionError, httpx.InvalidURL) as error:
            raise InvalidRequest(f"this cannot be sent: {error}") from error
        response = self._http.send(request, stream=True)
        try:
            content = self._content(response)
        finally:
            response.close()
        self.calls_left = _whole(response.headers.get("X-RateLimit-Remaining", ""))
        self._more_in_s = _more_in_s(response.headers)
        headers = [pair for pair in response.headers.raw if pair[0].lower() not in OF_THE_WAY]
        return httpx.Response(response.status_code, headers=headers, content=content, request=request)

    def _content(self, response: httpx.Response) -> bytes:
        """The whole body; neither more than memory holds, nor drop by drop for ever."""
        # httpx bounds the time between two pieces, not that of all.
        until, content = self.clock.now() + self.timeout, bytearray()
        for piece in response.iter_bytes():
            content += piece
            if len(content) > LARGEST_ANSWER:
                raise UnexpectedAnswer(f"{response.url} answers with more than {LARGEST_ANSWER >> 20} MiB")
            if self.clock.now() > until:
                raise httpx.ReadTimeout("the answer does not end", request=response.request)
        return bytes(content)

    def _failed(self, error: httpx.RequestError) -> SdkError:
        if isinstance(error, httpx.DecodingError):
            return UnexpectedAnswer(f"{self.root} answers with what cannot be unpacked: {error}")
        if isinstance(error, httpx.LocalProtocolError):
            return InvalidRequest(f"this cannot be sent: {error}")
        if isinstance(error, httpx.TimeoutException):
            return Timeout(f"{self.root} did not answer within {self.timeout:g} s")
        if _is_bad_certificate(error):
            words = f"the certificate of {self.root} is not trusted: {error}"
            return ConnectionFailed(words, advice=BAD_CERTIFICATE)
        return ConnectionFailed(f"{self.root} cannot be reached: {error or type(error).__name__}")


class _Outage:
    """Whether a server that was there is waited for when the usual tries are used up; said in the log, once."""

    def __init__(self, calls: Calls, until: float | None) -> None:
        self._calls = calls
        self._until = math.inf if until is None else until
        self._said = False

    def retries(self, tries: int, failure: SdkError) -> Retries:
        """How often it is tried: without end until the outage has lasted for too long."""
        usual, now = self._calls.retries, self._calls.clock.now()
        if tries == 1 and self._until == math.inf:
            self._until = now + LONGEST_OUTAGE_S
        if not self._calls.reached or now >= self._until:
            return usual
        if tries > usual.most and not self._said:
            self._said = True
            left = self._until - now
            log.warning("%s; asking again for up to %.0f s", printable(failure.message), left)
        return replace(usual, most=max(usual.most, tries))

    def ends(self) -> None:
        if self._said:
            log.info("%s answers again", self._calls.root)


def printable(text: str) -> str:
    """A text in which nothing steers a terminal or begins another line of a log."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def envelope(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer, whatever its status. Raises UnexpectedAnswer."""
    try:
        body = response.json()
    except (ValueError, RecursionError):  # the second: nested without end
        body = None
    if not isinstance(body, dict):
        raise UnexpectedAnswer(f"{response.url} answers {response.status_code} without a JSON object")
    return body


def refused(response: httpx.Response) -> errors.ApiError:
    """The exception of an error answer. Raises UnexpectedAnswer where it is none of this API, nor of a proxy."""
    status = response.status_code
    wanted = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
    try:
        body = envelope(response)
    except UnexpectedAnswer:
        body = {}
    if "error_code" in body:
        return errors.from_body(status, body, wanted)
    if status not in BY_STATUS:
        raise UnexpectedAnswer(f"{response.url} answers {status} without this API's envelope")
    return BY_STATUS[status](f"{response.url} answers {status}", status=status, retry_after=wanted)


def _may_repeat(call: Call, error: httpx.RequestError) -> bool:
    """Whether it may be sent again: because that is harmless, or because it cannot have arrived."""
    ours = isinstance(error, httpx.LocalProtocolError)
    if ours or _is_bad_certificate(error) or not isinstance(error, httpx.TransportError):
        return False
    return call.repeatable or isinstance(error, NEVER_ARRIVED)


def _is_bad_certificate(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _api_of(base_url: str) -> str:
    """The API's address: of a bare server's, the place where it always is. Raises ValueError."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise ValueError(f"base_url is {base_url!r}, which is no address: {error}") from None
    if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65_535:
        raise ValueError(f"base_url is {base_url!r}; give an address as http://HOST:8081{API_PATH}")
    bare = base_url.rstrip("/")
    return bare if url.path.strip("/") else bare + API_PATH


def _tls(verify: bool | ssl.SSLContext, ca: str | PathLike[str] | None) -> ssl.SSLContext:
    """How servers prove themselves. Raises ValueError for a file that holds no certificate."""
    if ca is None:
        return verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify)
    if verify is not True:
        raise ValueError("give either ca= or verify=: a context has authorities of its own")
    try:
        return ssl.create_default_context(cafile=fspath(ca))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(
            f"ca={fspath(ca)!r} cannot be used: {error}; give a PEM file of certificates"
        ) from error


def _checked_key(api_key: str) -> str:
    if not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key holds characters no key has; was a line break copied with it?")
    return api_key


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None


def _more_in_s(headers: httpx.Headers) -> float:
    """Seconds until the rate limit lets one more call through, by the server's own clock; without end if untold."""
    moment = _whole(headers.get("X-RateLimit-Reset", ""))
    try:
        now = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return math.inf
    return math.inf if moment is None else max(0.0, moment - now)


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
