"""Routes under /api/v1/."""

from django.urls import re_path

from clusterconfig.registry import SECTIONS
from retire_cluster.ops.config_views import ConfigResetView, ConfigSectionView, ConfigView
from retire_cluster.ops.views import ClusterConfigView, ClusterMetricsView, ClusterStatusView

urlpatterns = [
    re_path(r"^cluster/status/?$", ClusterStatusView.as_view(), name="cluster-status"),
    re_path(r"^cluster/metrics/?$", ClusterMetricsView.as_view(), name="cluster-metrics"),
    re_path(r"^cluster/config/?$", ClusterConfigView.as_view(), name="cluster-config"),
    re_path(r"^config/?$", ConfigView.as_view(), name="config"),
    re_path(r"^config/reset/?$", ConfigResetView.as_view(), name="config-reset"),
    re_path(
        rf"^config/(?P<section>{'|'.join(SECTIONS)})/?$", ConfigSectionView.as_view(), name="config-section"
    ),
]
