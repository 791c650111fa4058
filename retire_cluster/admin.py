"""Users and groups in the clothes of the other admin pages."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangosGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangosUserAdmin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

if TYPE_CHECKING:
    Users = DjangosUserAdmin[User]
    Groups = DjangosGroupAdmin
else:
    from unfold.admin import ModelAdmin  # has no types

    class Users(DjangosUserAdmin, ModelAdmin):
        pass

    class Groups(DjangosGroupAdmin, ModelAdmin):
        pass


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(Users):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "is_staff", "is_superuser", "is_active", "last_login", "date_joined")


@admin.register(Group)
class GroupAdmin(Groups):
    pass
