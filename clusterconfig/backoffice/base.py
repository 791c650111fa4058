"""Base classes of the admin pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import JSONField, Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from clusterconfig import permissions
from clusterconfig.audit import Actor
from clusterconfig.backoffice import selection
from clusterconfig.backoffice.columns import pretty
from clusterconfig.backoffice.paging import LargeTablePaginator

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin  # has no types

ROWS_ON_A_PAGE = 50


class Rows(ChangeList):
    """The rows of a list; how many there are is said at its foot only, in words for large numbers too."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class ReadOnlyAdmin(ModelAdmin):
    """Rows to look at: the services are the only writers, and they check what a form would not.

    Whoever may enter the admin sees all of them, as the scope `admin` does, and may use the actions.
    """

    list_per_page = ROWS_ON_A_PAGE
    list_disable_select_all = True  # what cannot be seen is not acted on
    list_fullwidth = True
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # a count for each choice of each filter
    long_texts: ClassVar[Sequence[str]] = ()
    """Fields whose text is long or JSON, to lay out like JSON columns."""
    plural: ClassVar[str] = ""
    """What the rows are called where an s is not enough."""
    not_in_lists: ClassVar[Sequence[str]] = ()
    """Fields a list does not show and should not load."""

    def __init__(self, model: type[Model], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        if self.plural:  # in the model it would take a migration
            self.opts.verbose_name_plural = self.plural

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Rows

    def has_module_permission(self, request: HttpRequest) -> bool:
        return permissions.is_staff(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return permissions.is_staff(request)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the actions of a page are open to the visitor."""
        return permissions.is_staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer(*self.not_in_lists)

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        hidden = self.exclude or ()
        return self.fields or [field.name for field in self.opts.concrete_fields if field.name not in hidden]

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [
            (title, {**options, "fields": [self._shown(name) for name in options["fields"]]})
            for title, options in super().get_fieldsets(request, obj)
        ]

    def _shown(self, name: Any) -> Any:
        field = next((field for field in self.opts.concrete_fields if field.name == name), None)
        if field is not None and (isinstance(field, JSONField) or name in self.long_texts):
            return pretty(field)
        return name

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The audit trail knows who changed a row; the admin's own log knows only of the admin."""
        return HttpResponseRedirect(
            reverse("admin:clusterconfig_auditentry_changelist", query={"q": unquote(object_id)})
        )


class LargeTableAdmin(ReadOnlyAdmin):
    """Rows of a table that may have a million: walked in the order of an index, and never counted as a whole.

    A search is for a whole value of one of the `search_fields`; Django's own compares texts, which no index does.
    """

    paginator = LargeTablePaginator
    list_filter_submit = True
    sortable_by = ()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(pk__in=())
        for name in self.search_fields:
            try:
                wanted |= Q(**{name: self._field(name).to_python(term)})
            except ValidationError:
                continue  # no id, so it is searched for in the other fields only
        return queryset.filter(wanted), False

    def _field(self, name: str) -> Any:
        return self.opts.get_field(name)


class SecretAdmin(ReadOnlyAdmin):
    """Rows that stand for a secret: made here, where it is shown once, and revoked here; never changed."""

    actions: Sequence[Any] = ("revoke",)
    exclude = ("digest",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.is_staff(request)

    def get_form(
        self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else self.form

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return (
            super().get_fieldsets(request, obj) if obj else [(None, {"fields": list(self.form.base_fields)})]
        )

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Make the row through the service, as every other way does, and show the secret."""
        secret, row = self.make(form.new, permissions.staff_actor(request))
        obj.__dict__.update(row.__dict__)
        note = "Shown only now, keep it safe"
        self.message_user(request, f"{note}: {secret}", messages.WARNING)

    def make(self, new: Any, actor: Actor) -> tuple[str, Model]:
        """What to show, and the new row."""
        raise NotImplementedError

    @admin.action(description="Revoke", permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        outcome = selection.apply(request, queryset, self.end)
        selection.say(request, outcome, "revoked")

    def end(self, key: Any, actor: Actor) -> None:
        """Revoke one row through the service. Raises selection.Refused for one that is revoked already."""
        raise NotImplementedError
