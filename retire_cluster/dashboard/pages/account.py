"""Signing in, out, and the account of whoever is signed in."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from clusterconfig import guessing, permissions, signin
from retire_cluster.dashboard import access

ONCE = "dashboard/sign_in_once.html"
BY_LINK = "signed_in_by_link"  # in the session: its password may be set without knowing the old one


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """By name and password; then to the page in `next`."""
    form = AuthenticationForm(request, request.POST or None, label_suffix="")
    if request.method == "POST" and form.is_valid():
        login(request, form.get_user())
        return access.back(request)
    wanted = request.POST.get("next", request.GET.get("next", ""))
    return render(request, "dashboard/sign_in.html", {"form": form, "next": wanted})


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def sign_in_once(request: HttpRequest) -> HttpResponse:
    """By a link. Only the button uses it up: programs that preview links look at them too."""
    tried = guessing.link(request)
    try:
        answer = _redeem(request) if request.method == "POST" else _ask(request)
    except signin.LinkRefusedError as refusal:
        return render(request, ONCE, {"refusal": str(refusal)}, status=400)
    tried.was_right()
    # Not no-referrer: the form would come with `Origin: null`, which is refused.
    answer["Referrer-Policy"] = "same-origin"
    return answer


@require_POST
@never_cache
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("dashboard:overview")


@access.own_form
def account(request: HttpRequest) -> HttpResponse:
    """Set or change the password."""
    user: Any = request.user
    form = _password_form(request, user)
    if request.method == "POST" and _is_right(request, form):
        password = form.cleaned_data["new_password1"]
        signin.set_password(user, password, actor=permissions.staff_actor(request), now=timezone.now())
        update_session_auth_hash(request, user)
        request.session.pop(BY_LINK, None)
        messages.success(request, "The new password counts from now on. Other sessions of yours have ended.")
        return redirect("dashboard:account")
    return render(request, "dashboard/account.html", {"form": form})


def _ask(request: HttpRequest) -> HttpResponse:
    secret = request.GET.get("secret", "")
    username = signin.owner(secret, now=timezone.now())
    return render(request, ONCE, {"secret": secret, "username": username})


def _redeem(request: HttpRequest) -> HttpResponse:
    secret = request.POST.get("secret", "")
    user = signin.redeem(secret, caller=permissions.staff_actor(request), now=timezone.now())
    login(request, user)
    request.session[BY_LINK] = True
    return redirect("dashboard:account")


def _password_form(request: HttpRequest, user: User) -> "SetPasswordForm[User]":
    kind = SetPasswordForm if request.session.get(BY_LINK) else PasswordChangeForm
    return kind(user, request.POST or None, label_suffix="")


def _is_right(request: HttpRequest, form: "SetPasswordForm[User]") -> bool:
    """Whether the form is in order; its old password is as guarded against guessing as one to sign in with."""
    if "old_password" not in form.fields:
        return form.is_valid()
    tried = guessing.password(request, form.user.get_username())
    valid = form.is_valid()
    if "old_password" not in form.errors:
        tried.was_right()
    return valid
