"""Admin forms for new keys and tokens; the API's own reader judges what is filled in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from clusterconfig import serializers
from clusterconfig.keys import Scope
from clusterconfig.models import ApiKey, JoinToken
from retire_cluster.api.errors import ApiError
from retire_cluster.protocol.states import Role

if TYPE_CHECKING:
    ModelForm = forms.ModelForm[Any]
else:
    ModelForm = forms.ModelForm  # not subscriptable at run time

DAY_S = 24 * 3600
LONGEST_DAYS = serializers.LONGEST_LIFE_S // DAY_S


class SecretForm(ModelForm):
    """Turns its fields into the body of the API's request; `new` is what was asked for once it is valid."""

    parse: ClassVar[Callable[..., Any]]

    name = forms.CharField(max_length=100, help_text="What it is for", widget=UnfoldAdminTextInputWidget)
    expires_in_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=LONGEST_DAYS,
        help_text="Empty: it lasts until it is revoked",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        body = {name: value for name, value in cleaned.items() if value not in (None, "", [])}
        days = body.pop("expires_in_days", None)
        if days:
            body["expires_in_seconds"] = days * DAY_S
        try:
            self.new = type(self).parse(body, now=timezone.now())
        except ApiError as error:
            raise forms.ValidationError(error.failure.message) from None
        return cleaned

    def _post_clean(self) -> None:
        """The service makes the row; there is no instance to fill in and check."""

    def save(self, commit: bool = True) -> Any:
        return self.instance

    def save_m2m(self) -> None:
        """There are no relations."""


class WordsField(forms.CharField):
    """A list by commas."""

    def __init__(self, help_text: str) -> None:
        super().__init__(required=False, help_text=help_text, widget=UnfoldAdminTextInputWidget)

    def to_python(self, value: Any) -> Any:
        return [word.strip() for word in str(value or "").split(",") if word.strip()]


class KeyForm(SecretForm):
    """A new API key."""

    parse = staticmethod(serializers.parse_key)

    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, scope.value) for scope in Scope],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="execute runs code with the account of the agent; on a local node that is the server's own",
    )
    task_types = WordsField("With execute: only these types, by commas; empty: all")
    rate_limits = forms.CharField(
        required=False,
        max_length=100,
        help_text="Such as 600/minute;10000/hour, or off; empty: the default",
        widget=UnfoldAdminTextInputWidget,
    )

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = ()


class TokenForm(SecretForm):
    """A new join token."""

    parse = staticmethod(serializers.parse_token)

    max_uses = forms.IntegerField(
        required=False,
        min_value=1,
        help_text="Devices that may join; empty: any number",
        widget=UnfoldAdminIntegerFieldWidget,
    )
    role = forms.ChoiceField(
        required=False,
        choices=[("", "as the device says"), *((role.value, role.value) for role in Role)],
        widget=UnfoldAdminSelectWidget,
    )
    tags = WordsField("Given to every device that joins, by commas")
    task_types = WordsField("All that such a device may run, by commas; empty: what it offers")
    max_slots = forms.IntegerField(
        required=False,
        min_value=1,
        help_text="Most tasks at the same time",
        widget=UnfoldAdminIntegerFieldWidget,
    )

    class Meta:
        model = JoinToken
        fields: tuple[str, ...] = ()
