"""Routes under /api/v1/."""

from devices.views import DeviceViewSet
from retire_cluster.api.routers import OptionalSlashRouter

router = OptionalSlashRouter()
router.register("devices", DeviceViewSet, basename="device")
urlpatterns = router.urls
