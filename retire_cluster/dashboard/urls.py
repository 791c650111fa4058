"""Where each page is. What can be read has an address to keep; what a button does is a POST below it."""

from django.urls import path

from retire_cluster.dashboard.pages import home

app_name = "dashboard"
urlpatterns = [
    path("", home.overview, name="overview"),
]
