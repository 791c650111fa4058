"""The first page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_safe

from retire_cluster.dashboard import access
from retire_cluster.dashboard.overview import load


@access.page
def overview(request: HttpRequest) -> HttpResponse:
    """The cluster at a glance."""
    return render(request, "dashboard/overview.html", {"overview": load(request.get_host())})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Where the icon is, for pages that do not say."""
    return redirect(static("retire_cluster/icon.svg"))
