"""Django's description of the clusterconfig app."""

from django.apps import AppConfig


class ClusterconfigConfig(AppConfig):
    name = "clusterconfig"
    verbose_name = "Cluster configuration"
