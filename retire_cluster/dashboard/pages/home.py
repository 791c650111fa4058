"""The first page."""

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.http import require_safe

from retire_cluster.dashboard.overview import load


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """The cluster at a glance; closed to strangers under `--auth all`."""
    if settings.AUTH == "all" and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    return render(request, "dashboard/overview.html", {"overview": load(request.get_host())})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Where the icon is, for pages that do not say."""
    return redirect(static("retire_cluster/icon.svg"))
