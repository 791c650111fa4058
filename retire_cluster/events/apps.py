"""The app that owns the table of events."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "retire_cluster.events"
    label = "events"
