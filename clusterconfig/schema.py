"""What the endpoints of keys, tokens and audit take and answer, for the OpenAPI document."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import OpenApiParameter, extend_schema_view
from rest_framework import serializers

from clusterconfig.keys import Scope
from clusterconfig.views import AuditViewSet, JoinTokenViewSet, KeyViewSet, TicketViewSet
from retire_cluster.api.schema import CURSOR, PAGES, NameField, describe
from retire_cluster.protocol.states import Role

SCOPES = [scope.value for scope in Scope]


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Both headers a key may come in."""

    target_class = "clusterconfig.authentication.ApiKeyAuthentication"
    name = ["ApiKey", "BearerKey"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, Any]]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            {"type": "http", "scheme": "bearer"},
        ]


class KeySchema(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The first characters, to recognise the key by")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    task_types = serializers.ListField(child=serializers.CharField())
    rate_limits = serializers.CharField(allow_null=True)
    is_active = serializers.BooleanField()
    created_by = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewKeySchema(KeySchema):
    key = serializers.CharField(help_text="The only time it is shown")


class ExpirySchema(serializers.Serializer[Any]):
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    expires_in_seconds = serializers.IntegerField(required=False, allow_null=True, min_value=1)


class KeyRequestSchema(ExpirySchema):
    name = serializers.CharField(min_length=1, max_length=100)
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES), min_length=1)
    task_types = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="With `execute`: only these"
    )
    rate_limits = serializers.CharField(
        required=False, max_length=100, help_text="Such as 600/minute;10000/hour, or off"
    )


class JoinTokenSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=[item.value for item in Role], allow_null=True)
    tags = serializers.ListField(child=serializers.CharField())
    task_types = serializers.ListField(child=serializers.CharField())
    max_slots = serializers.IntegerField(allow_null=True)
    uses = serializers.IntegerField()
    max_uses = serializers.IntegerField(allow_null=True)
    is_active = serializers.BooleanField()
    created_by = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewJoinTokenSchema(JoinTokenSchema):
    token = serializers.CharField(help_text="The only time it is shown")
    join_command = serializers.CharField()


class JoinTokenRequestSchema(ExpirySchema):
    name = serializers.CharField(min_length=1, max_length=100)
    role = serializers.ChoiceField(choices=[item.value for item in Role], required=False, allow_null=True)
    tags = serializers.ListField(child=NameField(), required=False, max_length=32)
    task_types = serializers.ListField(child=serializers.CharField(), required=False, max_length=100)
    max_slots = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1024)
    max_uses = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)


class AuditSchema(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(allow_null=True)
    address = serializers.CharField(allow_null=True)
    action = serializers.CharField()
    target = serializers.CharField(allow_null=True)
    details = serializers.DictField()
    request_id = serializers.CharField(allow_null=True)


class TicketSchema(serializers.Serializer[Any]):
    ticket = serializers.CharField(help_text="For `/ws?ticket=…`, once, from the same origin")
    expires_at = serializers.DateTimeField()


OWN = OpenApiParameter("own", bool, description="Revoke the key that this request is made with")
MADE = {"Location": "Where it is"}

extend_schema_view(
    list=describe("listKeys", KeySchema(many=True), summary="API keys", paged=True, parameters=PAGES),
    create=describe(
        "createKey",
        NewKeySchema(),
        summary="Make an API key",
        status=201,
        body=KeyRequestSchema,
        headers=MADE,
    ),
    retrieve=describe("getKey", KeySchema(), summary="One API key", errors=(404,)),
    destroy=describe(
        "revokeKey", KeySchema(), summary="Revoke an API key", errors=(404, 409), parameters=[OWN]
    ),
)(KeyViewSet)
extend_schema_view(
    list=describe(
        "listJoinTokens", JoinTokenSchema(many=True), summary="Join tokens", paged=True, parameters=PAGES
    ),
    create=describe(
        "createJoinToken",
        NewJoinTokenSchema(),
        summary="Make a join token",
        status=201,
        body=JoinTokenRequestSchema,
        headers=MADE,
    ),
    retrieve=describe("getJoinToken", JoinTokenSchema(), summary="One join token", errors=(404,)),
    destroy=describe("revokeJoinToken", JoinTokenSchema(), summary="Revoke a join token", errors=(404,)),
)(JoinTokenViewSet)
extend_schema_view(
    list=describe(
        "listAudit",
        AuditSchema(many=True),
        summary="Who changed what, newest first",
        paged=True,
        parameters=[*PAGES, CURSOR],
    ),
)(AuditViewSet)
extend_schema_view(
    create=describe("createTicket", TicketSchema(), summary="Make a ticket for `/ws`", status=201),
)(TicketViewSet)
