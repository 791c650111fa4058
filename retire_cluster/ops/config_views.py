"""The cluster's configuration, for administrators."""

from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clusterconfig import registry
from clusterconfig import services as config
from clusterconfig.keys import Scope
from clusterconfig.permissions import actor, needs
from clusterconfig.services import Section
from retire_cluster import db
from retire_cluster.api.errors import ApiError, FieldError, invalid
from retire_cluster.api.etags import changed_meanwhile, etag, versions_wanted
from retire_cluster.api.validation import ObjectReader
from retire_cluster.ops.cluster import gateway_address

READ_ONLY = "is read-only here: the gateway is told by its flags --host and --port; leave it out or as it is"


class ConfigView(APIView):
    """The whole configuration, section by section."""

    permission_classes = (needs(Scope.ADMIN),)

    def get(self, request: Request) -> Response:
        return Response(_shown(config.sections()))


class ConfigSectionView(APIView):
    """One section. PUT takes all or some of its keys and answers with all of them; `If-Match` is honoured."""

    permission_classes = (needs(Scope.ADMIN),)

    def get(self, request: Request, section: str) -> Response:
        return _answer(config.section(section))

    def put(self, request: Request, section: str) -> Response:
        values = _settable(section, request.data)
        versions = versions_wanted(request, section)
        try:
            changed = config.change(section, values, actor=actor(request), now=db.now(), versions=versions)
        except config.StaleError as stale:
            raise changed_meanwhile(section, stale.version) from None
        except config.InvalidError as error:
            raise _invalid(error.problems) from None
        return _answer(changed)


class ConfigResetView(APIView):
    """Every setting back to its default."""

    permission_classes = (needs(Scope.ADMIN),)

    def post(self, request: Request) -> Response:
        ObjectReader(request.data).finish()
        return Response(_shown(config.reset(actor=actor(request), now=db.now())))


def _answer(section: Section) -> Response:
    headers = {"ETag": etag(section.name, section.version)}
    return Response(_with_address(section.name, section.values), headers=headers)


def _shown(sections: Mapping[str, Section]) -> dict[str, Any]:
    return {name: _with_address(name, section.values) for name, section in sections.items()}


def _with_address(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The section's values; with the server's, where it listens."""
    return {**(_address() if name == "server" else {}), **values}


def _address() -> dict[str, Any]:
    host, port, _ = gateway_address()
    return {"host": host, "port": port}


def _settable(name: str, body: Any) -> dict[str, Any]:
    """The values to store. What is only shown may be sent back unchanged. Raises the API's 400."""
    if not isinstance(body, dict):
        raise invalid(FieldError("body", "must be an object"))
    shown = _address() if name == "server" else {}
    values = {key: value for key, value in body.items() if key not in shown}
    changed = [key for key in shown if key in body and not _same(body[key], shown[key])]
    if changed:
        wrong = [registry.ConfigError(f"{name}.{key}", READ_ONLY) for key in changed]
        raise _invalid([*wrong, *registry.problems(name, values)])
    return values


def _same(sent: Any, shown: Any) -> bool:
    return type(sent) is type(shown) and bool(sent == shown)


def _invalid(problems: Iterable[registry.ConfigError]) -> ApiError:
    """The API's 400; fields are named as in the body."""
    return invalid(
        *(FieldError(problem.field.partition(".")[2][:100] or "body", problem.reason) for problem in problems)
    )
