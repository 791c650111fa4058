"""The pages for people."""

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "retire_cluster.dashboard"
    label = "dashboard"
